package s3api

import (
	"context"
	"encoding/xml"
	"strings"

	"stemma/pageserver/auth"
	"stemma/pageserver/object"
	"stemma/pageserver/policy"
)

// The URIs that mean groups in grants.
const groupPrefix = "http://acs.amazonaws.com/groups/"

var groupURIs = map[object.GranteeKind]string{
	object.GranteeAll:           groupPrefix + "global/AllUsers",
	object.GranteeAuthenticated: groupPrefix + "global/AuthenticatedUsers",
	object.GranteeLogDelivery:   groupPrefix + "s3/LogDelivery",
}

// Accounts knows the accounts that grants can name. Safe for concurrent use.
type Accounts interface {
	// DisplayName returns the name of an account by its canonical id, and whether there is one.
	DisplayName(id string) (string, bool)
	// AccountByEmail returns the canonical id of the account with an email address.
	AccountByEmail(email string) (id string, ok bool)
}

// rootOnly are the accounts of a server without users.
type rootOnly struct{}

// DisplayName implements Accounts.
func (rootOnly) DisplayName(id string) (string, bool) { return auth.RootName, id == auth.RootID }

// AccountByEmail implements Accounts.
func (rootOnly) AccountByEmail(string) (string, bool) { return "", false }

// aclOwners are the owners that an ACL is about.
type aclOwners struct {
	owner  string // of what has the ACL
	bucket string // of the bucket
}

// grant returns a grant to an account.
func (o aclOwners) grant(id string, p object.Permission) object.Grant {
	if id == o.owner {
		return object.Grant{Kind: object.GranteeOwner, Permission: p}
	}
	return object.Grant{Kind: object.GranteeUser, ID: id, Permission: p}
}

// cannedACL returns what a canned ACL stands for. Errors: InvalidArgument, NotImplemented.
func cannedACL(name string, o aclOwners, ofObject bool) (object.ACL, error) {
	acl := object.ACL{{Kind: object.GranteeOwner, Permission: object.PermFullControl}}
	group := func(kind object.GranteeKind, perms ...object.Permission) object.ACL {
		for _, p := range perms {
			acl = append(acl, object.Grant{Kind: kind, Permission: p})
		}
		return acl
	}
	forBucketOwner := func(p object.Permission) object.ACL {
		if !ofObject || o.owner == o.bucket {
			return nil
		}
		return append(acl, o.grant(o.bucket, p))
	}
	switch name {
	case "private":
		return nil, nil
	case "public-read":
		return group(object.GranteeAll, object.PermRead), nil
	case "public-read-write":
		return group(object.GranteeAll, object.PermRead, object.PermWrite), nil
	case "authenticated-read":
		return group(object.GranteeAuthenticated, object.PermRead), nil
	case "log-delivery-write":
		if !ofObject {
			return group(object.GranteeLogDelivery, object.PermWrite, object.PermReadACP), nil
		}
	case "bucket-owner-read":
		return forBucketOwner(object.PermRead), nil
	case "bucket-owner-full-control":
		return forBucketOwner(object.PermFullControl), nil
	case "aws-exec-read":
		return nil, notImplemented("the canned ACL aws-exec-read")
	}
	return nil, invalidArgument("x-amz-acl", name, "")
}

// grantHeaders are the headers that grant, in the order that the grants get.
var grantHeaders = []struct {
	name string
	perm object.Permission
}{
	{"x-amz-grant-read", object.PermRead}, {"x-amz-grant-write", object.PermWrite}, {"x-amz-grant-read-acp", object.PermReadACP},
	{"x-amz-grant-write-acp", object.PermWriteACP}, {"x-amz-grant-full-control", object.PermFullControl},
}

// headerACL returns the ACL that headers give, and whether there are any. Errors: those
// of cannedACL, of grants, InvalidRequest of both.
func (r *request) headerACL(o aclOwners, ofObject bool) (acl object.ACL, given bool, err error) {
	canned := r.amz("x-amz-acl")
	for _, h := range grantHeaders {
		for _, f := range r.amzFields {
			if f.Name != h.name {
				continue
			}
			if acl, err = r.appendGrants(acl, f.Value, h.name, o, h.perm); err != nil {
				return nil, false, err
			}
			given = true
		}
	}
	switch {
	case given && canned != "":
		return nil, false, &apiError{code: "InvalidRequest", message: "Specifying both Canned ACLs and Header Grants is not allowed"}
	case given:
		if acl == nil {
			acl = object.ACL{}
		}
		return acl, true, object.CheckACL(acl)
	case canned == "":
		return nil, false, nil
	}
	acl, err = cannedACL(canned, o, ofObject)
	return acl, true, err
}

// appendGrants appends the grants of a header: id="...", uri="...", emailAddress="...".
func (r *request) appendGrants(acl object.ACL, value, header string, o aclOwners, p object.Permission) (object.ACL, error) {
	for item := range strings.SplitSeq(value, ",") {
		kind, who, ok := strings.Cut(strings.TrimSpace(item), "=")
		who = strings.Trim(strings.TrimSpace(who), `"`)
		if !ok || who == "" {
			return nil, invalidArgument(header, value, "Argument format not recognized")
		}
		var g object.Grant
		var err error
		switch strings.ToLower(strings.TrimSpace(kind)) {
		case "id":
			g, err = r.grantToID(who, o, p)
		case "uri":
			g, err = grantToGroup(who, p)
		case "emailaddress":
			g, err = r.grantToEmail(who, o, p)
		default:
			err = invalidArgument(header, value, "Argument format not recognized")
		}
		if err != nil {
			return nil, err
		}
		acl = append(acl, g)
	}
	return acl, nil
}

func (r *request) grantToID(id string, o aclOwners, p object.Permission) (object.Grant, error) {
	if _, ok := r.srv.o.Accounts.DisplayName(id); !ok && id != o.owner {
		return object.Grant{}, invalidArgument("CanonicalUser/ID", id, "Invalid id")
	}
	return o.grant(id, p), nil
}

func grantToGroup(uri string, p object.Permission) (object.Grant, error) {
	for kind, have := range groupURIs {
		if have == uri {
			return object.Grant{Kind: kind, Permission: p}, nil
		}
	}
	return object.Grant{}, invalidArgument("Group/URI", uri, "Invalid group uri")
}

func (r *request) grantToEmail(email string, o aclOwners, p object.Permission) (object.Grant, error) {
	id, ok := r.srv.o.Accounts.AccountByEmail(email)
	if !ok {
		return object.Grant{}, &apiError{code: "UnresolvableGrantByEmailAddress", fields: []auth.Field{{Name: "EmailAddress", Value: clip(email)}}}
	}
	return o.grant(id, p), nil
}

// aclXML is an ACL as a document.
type aclXML struct {
	Owner *struct {
		ID          string `xml:"ID"`
		DisplayName string `xml:"DisplayName"`
	} `xml:"Owner"`
	List *struct {
		Grants []grantXML `xml:"Grant"`
	} `xml:"AccessControlList"`
	Unknown []unknownXML `xml:",any"`
}

type grantXML struct {
	Grantee struct {
		Type         string `xml:"http://www.w3.org/2001/XMLSchema-instance type,attr"`
		ID           string `xml:"ID"`
		DisplayName  string `xml:"DisplayName"`
		URI          string `xml:"URI"`
		EmailAddress string `xml:"EmailAddress"`
	} `xml:"Grantee"`
	Permission string `xml:"Permission"`
}

// errMalformedACL is the answer to a document that is no ACL.
var errMalformedACL = &apiError{code: "MalformedACLError"}

// documentACL returns the ACL of a document. Errors: MalformedACLError, AccessDenied
// when it names another owner, those of grants.
func (r *request) documentACL(p []byte, o aclOwners) (object.ACL, error) {
	var doc struct {
		XMLName xml.Name `xml:"AccessControlPolicy"`
		aclXML
	}
	if err := decodeXML(p, &doc); err != nil || doc.Owner == nil || doc.List == nil || len(doc.Unknown) > 0 {
		return nil, errMalformedACL
	}
	if doc.Owner.ID != o.owner {
		return nil, errDenied
	}
	acl := object.ACL{}
	for i := range doc.List.Grants {
		g, err := r.documentGrant(&doc.List.Grants[i], o)
		if err != nil {
			return nil, err
		}
		acl = append(acl, g)
	}
	return acl, object.CheckACL(acl)
}

func (r *request) documentGrant(g *grantXML, o aclOwners) (object.Grant, error) {
	p, ok := object.ParsePermission(g.Permission)
	if !ok {
		return object.Grant{}, errMalformedACL
	}
	kind := g.Grantee.Type
	if kind == "" {
		switch {
		case g.Grantee.ID != "":
			kind = "CanonicalUser"
		case g.Grantee.URI != "":
			kind = "Group"
		case g.Grantee.EmailAddress != "":
			kind = "AmazonCustomerByEmail"
		}
	}
	switch {
	case kind == "CanonicalUser" && g.Grantee.ID != "":
		return r.grantToID(g.Grantee.ID, o, p)
	case kind == "Group" && g.Grantee.URI != "":
		return grantToGroup(g.Grantee.URI, p)
	case kind == "AmazonCustomerByEmail" && g.Grantee.EmailAddress != "":
		return r.grantToEmail(g.Grantee.EmailAddress, o, p)
	}
	return object.Grant{}, errMalformedACL
}

// sendACL answers with an ACL.
func (r *request) sendACL(acl object.ACL, owner string) {
	if acl == nil {
		acl = object.ACL{{Kind: object.GranteeOwner, Permission: object.PermFullControl}}
	}
	w := newResult("AccessControlPolicy")
	r.writeOwner(w, "Owner", owner)
	w.open("AccessControlList")
	// Groups first: clients that show ACLs of objects and buckets expect that order.
	for _, users := range []bool{false, true} {
		for _, g := range acl {
			if (g.Kind == object.GranteeUser || g.Kind == object.GranteeOwner) == users {
				r.writeGrant(w, g, owner)
			}
		}
	}
	w.close("AccessControlList")
	w.close("AccessControlPolicy")
	r.sendXML(w)
}

func (r *request) writeGrant(w *xmlWriter, g object.Grant, owner string) {
	const schema = `<Grantee xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:type="`
	w.open("Grant")
	if uri, ok := groupURIs[g.Kind]; ok {
		w.raw(schema + `Group">`)
		w.text("URI", uri)
	} else {
		id := g.ID
		if g.Kind == object.GranteeOwner {
			id = owner
		}
		w.raw(schema + `CanonicalUser">`)
		w.text("ID", id)
		if name, ok := r.srv.o.Accounts.DisplayName(id); ok {
			w.text("DisplayName", name)
		}
	}
	w.close("Grantee")
	w.text("Permission", g.Permission.String())
	w.close("Grant")
}

// putACL returns the ACL that a request puts: of headers or of its body. Errors: those
// of both, MissingSecurityHeader when there is neither.
func (r *request) putACL(o aclOwners, ofObject bool) (object.ACL, error) {
	acl, given, err := r.headerACL(o, ofObject)
	if err != nil {
		return nil, err
	}
	p, err := r.document(maxXMLBytes, false)
	if err != nil {
		return nil, err
	}
	switch {
	case given && len(p) > 0:
		return nil, &apiError{code: "UnexpectedContent"}
	case given:
		return acl, nil
	case len(p) == 0:
		return nil, &apiError{code: "MissingSecurityHeader", fields: []auth.Field{{Name: "MissingHeaderName", Value: "x-amz-acl"}}}
	}
	return r.documentACL(p, o)
}

// checkPublicACL refuses an ACL that the bucket keeps out.
func checkPublicACL(set *object.Settings, acl object.ACL) error {
	if set.PublicAccessBlocked().BlockPublicACLs && acl.Public() {
		return errDenied
	}
	return nil
}

// errNoACLs is the answer where ACLs do not count.
var errNoACLs = &apiError{code: "AccessControlListNotSupported"}

func getBucketACL(ctx context.Context, r *request) error {
	b, err := r.resource(r.bucket)
	if err != nil {
		return err
	}
	set, err := r.settings(ctx)
	if err != nil {
		return err
	}
	acl := set.ACL
	if !set.ACLsEnabled() {
		acl = nil
	}
	r.sendACL(acl, b.owner)
	return nil
}

func putBucketACL(ctx context.Context, r *request) error {
	b, err := r.resource(r.bucket)
	if err != nil {
		return err
	}
	acl, err := r.putACL(aclOwners{b.owner, b.owner}, false)
	if err != nil {
		return err
	}
	lsn, err := r.srv.objects.UpdateSettings(ctx, r.bucket, func(set *object.Settings) error {
		if !set.ACLsEnabled() {
			return errNoACLs
		}
		set.ACL = acl
		return checkPublicACL(set, acl)
	})
	if err != nil {
		return err
	}
	r.setLSN(lsn)
	return nil
}

func getObjectACL(ctx context.Context, r *request) error {
	b, err := r.resource(r.bucket)
	if err != nil {
		return err
	}
	in := &object.GetInput{Clear: true}
	if in.Version, err = r.versionID(); err != nil {
		return err
	}
	if in.At, err = r.at(); err != nil {
		return err
	}
	o, err := r.srv.objects.Head(ctx, r.bucket, r.key, in)
	if err != nil {
		return err
	}
	r.setLSN(o.At)
	r.setVersionID(o.ID)
	if !b.set.ACLsEnabled() {
		r.sendACL(nil, b.owner)
		return nil
	}
	r.sendACL(o.ACL, (&need{bucket: b, entry: &o.Entry}).owner())
	return nil
}

func putObjectACL(ctx context.Context, r *request) error {
	b, err := r.resource(r.bucket)
	if err != nil {
		return err
	}
	id, err := r.versionID()
	if err != nil {
		return err
	}
	entry, err := r.lookUp(ctx)
	if err != nil {
		return err
	}
	owner := (&need{bucket: b, entry: entry}).owner()
	acl, err := r.putACL(aclOwners{owner, b.owner}, true)
	if err != nil {
		return err
	}
	now := *b
	n := need{action: "s3:PutObjectAcl", bucket: &now, key: r.key, acl: object.PermWriteACP}
	if id != 0 {
		n.action = "s3:PutObjectVersionAcl"
	}
	o, err := r.srv.objects.SetAccess(ctx, r.bucket, r.key, id, func(set *object.Settings, e *object.Entry) (object.Access, error) {
		have := e.Access
		if !set.ACLsEnabled() {
			if r.amz("x-amz-acl") == "bucket-owner-full-control" {
				return have, nil // it is so
			}
			return have, errNoACLs
		}
		if !set.ObjectACLsEnabled() && !acl.Private() {
			return have, errNoACLs
		}
		if n.bucket.set, n.entry = set, e; n.owner() != owner || !r.may(&n) {
			return have, errDenied // another version came in between
		}
		have.ACL = acl
		return have, checkPublicACL(set, acl)
	})
	if err != nil {
		return err
	}
	r.setVersionID(o.ID)
	r.setLSN(o.At)
	return nil
}

// newAccess returns whose a new object is, and its ACL by the headers. Errors: those of
// headerACL, AccessControlListNotSupported, AccessDenied of a public ACL.
func (r *request) newAccess() (object.Access, error) {
	c := r.proof.Caller
	given := false
	for i := range r.amzFields {
		name := r.amzFields[i].Name
		given = given || name == "x-amz-acl" || strings.HasPrefix(name, "x-amz-grant-")
	}
	if c.Root && !given {
		return object.Access{}, nil
	}
	b, err := r.resource(r.bucket)
	if err != nil {
		return object.Access{}, err
	}
	if !b.set.ACLsEnabled() {
		return object.Access{}, r.checkEnforced(b)
	}
	a := object.Access{Owner: r.ownerOfNew(b)}
	owners := aclOwners{a.Owner, b.owner}
	if a.Owner == "" {
		owners.owner = b.owner
	}
	acl, _, err := r.headerACL(owners, true)
	if err != nil {
		return object.Access{}, err
	}
	if !b.set.ObjectACLsEnabled() && !acl.Private() {
		return object.Access{}, errNoACLs
	}
	if b.set.Ownership == object.BucketOwnerPreferred && r.amz("x-amz-acl") == "bucket-owner-full-control" {
		return object.Access{}, nil
	}
	// Whoever writes in another's name does not make that public, unless it may anyway, or
	// an ACL lets everybody do so.
	if acl.Public() {
		byACL := r.proof.Caller.ID != b.owner && r.mayByACL(&need{bucket: b, acl: object.PermWrite}, b.owner)
		if !byACL && !r.may(&need{action: "s3:PutObjectAcl", bucket: b, key: r.key, entry: &object.Entry{Access: a}}) {
			return object.Access{}, errDenied
		}
	}
	a.ACL = acl
	return a, checkPublicACL(b.set, acl)
}

// checkEnforced refuses ACLs where the bucket's owner owns everything, but for those
// that say just that.
func (r *request) checkEnforced(b *resource) error {
	acl, given, err := r.headerACL(aclOwners{b.owner, b.owner}, true)
	canned := r.amz("x-amz-acl")
	switch {
	case err != nil:
		return err
	case !given, canned == "bucket-owner-full-control":
		return nil
	case canned == "" && len(acl) == 1 && acl[0] == object.Grant{Kind: object.GranteeOwner, Permission: object.PermFullControl}:
		return nil
	}
	return errNoACLs
}

// ownerOfNew returns the canonical id of the owner of what the caller puts into a bucket;
// empty: the bucket's. Whoever may write there by policies of its own writes in the name
// of the bucket's account; what nobody wrote is the bucket owner's, too.
func (r *request) ownerOfNew(b *resource) string {
	c := r.proof.Caller
	if c.Root || c.Anonymous() || c.ID == b.owner {
		return ""
	}
	n := &need{action: "s3:PutObject", bucket: b, key: r.key}
	q := &policy.Request{Principal: c.Principal, Action: n.action, Resource: n.resourceARN(b.info.Name), Context: &conditions{r: r, need: n}}
	if decision, _ := byIdentity(c, q, b.owner); decision == policy.Allow {
		return ""
	}
	return c.ID
}

// newBucketACL returns the ACL of a bucket that the request makes, and who owns what is
// put into it.
func (r *request) newBucketACL() (object.ACL, object.ObjectOwnership, error) {
	id := r.proof.Caller.ID
	acl, _, err := r.headerACL(aclOwners{id, id}, false)
	if err != nil {
		return nil, "", err
	}
	ownership, err := parseOwnership(r.amz("x-amz-object-ownership"))
	if err == nil && ownership == object.BucketOwnerEnforced && !acl.Private() {
		err = &apiError{code: "InvalidBucketAclWithObjectOwnership"}
	}
	return acl, ownership, err
}
