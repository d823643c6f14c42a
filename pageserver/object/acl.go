package object

import "slices"

// Permission is what a grant gives.
type Permission byte

// The permissions of S3.
const (
	PermRead Permission = iota + 1
	PermWrite
	PermReadACP
	PermWriteACP
	PermFullControl
	numPermissions
)

var permissionNames = [numPermissions]string{PermRead: "READ", PermWrite: "WRITE", PermReadACP: "READ_ACP", PermWriteACP: "WRITE_ACP", PermFullControl: "FULL_CONTROL"}

// String returns the name that S3 uses.
func (p Permission) String() string {
	if p >= numPermissions {
		return "UNKNOWN"
	}
	return permissionNames[p]
}

// ParsePermission returns the permission of a name.
func ParsePermission(name string) (Permission, bool) {
	i := slices.Index(permissionNames[1:], name)
	return Permission(i + 1), i >= 0
}

// GranteeKind is whom a grant is for.
type GranteeKind byte

// The kinds of grantees. The owner is that of the bucket or object, whoever it is: in
// a fork, whose the fork is.
const (
	GranteeOwner GranteeKind = iota + 1
	GranteeUser
	GranteeAll           // everybody, anonymous callers included
	GranteeAuthenticated // whoever has an account
	GranteeLogDelivery
	numGranteeKinds
)

// Grant gives a permission.
type Grant struct {
	Kind       GranteeKind `json:"kind"`
	ID         string      `json:"id,omitempty"` // canonical, of GranteeUser
	Permission Permission  `json:"permission"`
}

// ACL is the grants of a bucket or an object. Nil is the default: FULL_CONTROL for
// the owner. An empty one grants nothing.
type ACL []Grant

// Limits of ACLs.
const (
	MaxGrants       = 100
	maxGranteeBytes = 128
)

// Access is whose an object is and who may do what with it.
type Access struct {
	// Owner is a canonical id; empty: the owner of the bucket.
	Owner string
	ACL   ACL
}

// ACLCaller is one who asks what an ACL grants.
type ACLCaller struct {
	ID    string // canonical; empty: anonymous
	Owner bool   // of what has the ACL
	// IgnorePublic leaves grants to everybody and to all accounts out.
	IgnorePublic bool
}

// Grants reports whether the ACL gives the caller a permission.
func (a ACL) Grants(c ACLCaller, p Permission) bool {
	if a == nil {
		return c.Owner
	}
	for i := range a {
		g := &a[i]
		if g.Permission != p && g.Permission != PermFullControl {
			continue
		}
		switch g.Kind {
		case GranteeOwner:
			if c.Owner {
				return true
			}
		case GranteeUser:
			if c.ID != "" && g.ID == c.ID {
				return true
			}
		case GranteeAll:
			if !c.IgnorePublic {
				return true
			}
		case GranteeAuthenticated:
			if !c.IgnorePublic && c.ID != "" {
				return true
			}
		}
	}
	return false
}

// Equal reports whether two ACLs grant the same in the same order; nil is like its meaning.
func (a ACL) Equal(b ACL) bool {
	plain := ACL{{Kind: GranteeOwner, Permission: PermFullControl}}
	if a == nil {
		a = plain
	}
	if b == nil {
		b = plain
	}
	return slices.Equal(a, b)
}

// Public reports whether the ACL grants anything to everybody, or to all accounts.
func (a ACL) Public() bool {
	return slices.ContainsFunc(a, func(g Grant) bool { return g.Kind == GranteeAll || g.Kind == GranteeAuthenticated })
}

// Private reports whether the ACL grants nothing to anybody but the owner.
func (a ACL) Private() bool {
	return !slices.ContainsFunc(a, func(g Grant) bool { return g.Kind != GranteeOwner })
}

// append appends the form in a record: per grant kind, permission and, of a user,
// uvarint length and id.
func (a ACL) append(dst []byte) []byte {
	for _, g := range a {
		dst = append(dst, byte(g.Kind), byte(g.Permission))
		if g.Kind == GranteeUser {
			dst = appendString(dst, g.ID)
		}
	}
	return dst
}

// decodeACL is the reverse of append. Errors: ErrCorrupt.
func decodeACL(p []byte) (ACL, error) {
	a := ACL{}
	for len(p) > 0 {
		if len(p) < 2 || len(a) == MaxGrants {
			return nil, corrupt("ACL of more than %d grants", MaxGrants)
		}
		g := Grant{Kind: GranteeKind(p[0]), Permission: Permission(p[1])}
		if p = p[2:]; g.Kind == GranteeUser {
			id, rest, ok := takeBytes(p)
			if !ok || len(id) == 0 || len(id) > maxGranteeBytes {
				return nil, corrupt("bad id of a grant")
			}
			g.ID, p = string(id), rest
		}
		if g.Kind == 0 || g.Kind >= numGranteeKinds || g.Permission == 0 || g.Permission >= numPermissions {
			return nil, corrupt("grant of kind %d, permission %d", g.Kind, g.Permission)
		}
		a = append(a, g)
	}
	return a, nil
}

// Tags of the fields of Access and of an upload's initiator, and the bit of the byte
// of the storage class that says that an object has an owner, for listings.
const (
	tagOwner     = 0x38
	tagACL       = 0x39
	tagInitiator = 0x3a
	classOwned   = 0x80
)

// append appends the fields.
func (a *Access) append(dst []byte) []byte {
	if a.Owner != "" {
		dst = appendString(append(dst, tagOwner), a.Owner)
	}
	if a.ACL != nil {
		dst = appendField(dst, tagACL, a.ACL.append(nil))
	}
	return dst
}

// decode decodes a field, if it is one of a.
func (a *Access) decode(tag byte, v []byte) (known bool, err error) {
	switch tag {
	case tagOwner:
		if len(v) == 0 || len(v) > maxGranteeBytes {
			return true, corrupt("owner of %d bytes", len(v))
		}
		a.Owner = string(v)
	case tagACL:
		a.ACL, err = decodeACL(v)
	default:
		return false, nil
	}
	return true, err
}

// ownerOf returns the owner that the meta of an object names.
func ownerOf(meta []byte) (owner string, err error) {
	var h metaHead
	p, err := h.decode(meta, true)
	if err != nil {
		return "", err
	}
	err = eachField(p, func(tag byte, v []byte) error {
		if tag == tagOwner {
			owner = string(v)
		}
		return nil
	})
	return owner, err
}

// CheckACL refuses what a record does not hold.
func CheckACL(a ACL) error {
	for i := range a {
		if len(a[i].ID) > maxGranteeBytes {
			return &RuleError{"InvalidArgument", "Invalid id"}
		}
	}
	if len(a) > MaxGrants {
		return &RuleError{"InvalidRequest", "An ACL can have up to 100 grants"}
	}
	return nil
}
