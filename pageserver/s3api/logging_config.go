package s3api

import (
	"context"

	"stemma/pageserver/object"
)

var loggingConfig = config[object.Logging]{
	root:  "BucketLoggingStatus",
	of:    func(set *object.Settings) **object.Logging { return &set.Logging },
	check: checkLogging,
}

// checkLogging also wants the target bucket to be there, and to be of the same owner, and
// makes the grants an ACL.
func checkLogging(_ context.Context, r *request, l *object.Logging) error {
	if err := l.Check(); err != nil || l.Enabled == nil {
		return err
	}
	target, err := r.logTarget(*l.Enabled.TargetBucket)
	if err != nil || l.Enabled.Grants == nil {
		return err
	}
	if !target.set.ACLsEnabled() {
		return errNoACLs
	}
	l.Enabled.ACL, err = r.logACL(l.Enabled.Grants, target.owner)
	if err == nil {
		err = checkPublicACL(target.set, l.Enabled.ACL)
	}
	l.Enabled.Grants = nil
	return err
}

// logACL returns grants on records of requests, whose owner needs none. Errors: those of documentGrant.
func (r *request) logACL(grants *object.LogGrants, owner string) (object.ACL, error) {
	var acl object.ACL
	text := func(s *string) string {
		if s == nil {
			return ""
		}
		return *s
	}
	for _, given := range grants.Grants {
		doc := grantXML{Permission: *given.Permission}
		doc.Grantee.ID, doc.Grantee.URI, doc.Grantee.EmailAddress = text(given.Grantee.ID), text(given.Grantee.URI), text(given.Grantee.EmailAddress)
		g, err := r.documentGrant(&doc, aclOwners{owner, owner})
		if err != nil {
			return nil, err
		}
		if g.Kind != object.GranteeOwner {
			acl = append(acl, g)
		}
	}
	return acl, object.CheckACL(acl)
}

// getLogging answers with how names are formed, too, when nothing was said of that.
func getLogging(ctx context.Context, r *request) error {
	set, err := r.settings(ctx)
	if err != nil {
		return err
	}
	w := newResult("BucketLoggingStatus")
	if set.Logging != nil && set.Logging.Enabled != nil {
		r.writeLogging(w, set.Logging.Enabled)
	}
	w.close("BucketLoggingStatus")
	r.sendXML(w)
	return nil
}

func (r *request) writeLogging(w *xmlWriter, to *object.LoggingEnabled) {
	w.open("LoggingEnabled")
	w.text("TargetBucket", *to.TargetBucket)
	if len(to.ACL) > 0 {
		w.open("TargetGrants")
		for _, g := range to.ACL {
			r.writeGrant(w, g, "")
		}
		w.close("TargetGrants")
	}
	w.text("TargetPrefix", *to.TargetPrefix)
	w.open("TargetObjectKeyFormat")
	if f := to.KeyFormat; f != nil && f.Partitioned != nil {
		w.open("PartitionedPrefix")
		w.text("PartitionDateSource", *f.Partitioned.DateSource)
		w.close("PartitionedPrefix")
	} else {
		w.open("SimplePrefix")
		w.close("SimplePrefix")
	}
	w.close("TargetObjectKeyFormat")
	w.close("LoggingEnabled")
}
