package identity

import (
	"fmt"

	"stemma/pageserver/auth"
	"stemma/pageserver/policy"
)

// callerOf makes the caller of a user's keys. The caller holds d.mu.
func (d *Directory) callerOf(u *User) (*auth.Caller, error) {
	account := auth.AccountNumber(u.ID)
	root := "arn:aws:iam::" + account + ":root"
	c := &auth.Caller{ID: u.ID, DisplayName: u.DisplayName, Name: u.Name, ARN: u.ARN(), Unique: u.Unique, Owner: u.Owner}
	if u.Member {
		if a := d.mu.accounts[u.ID]; a != nil {
			c.DisplayName = a.DisplayName
		} else if u.ID == auth.RootID {
			c.DisplayName = auth.RootName
		}
	}
	c.Principal = policy.Principal{
		Names:     []string{c.ARN, u.Unique, "arn:aws:iam:::user/" + u.Name},
		Accounts:  []string{root, account},
		Canonical: u.ID,
		Delegated: u.Member,
	}
	if !u.Member {
		c.Principal.Names = append(c.Principal.Names, u.ID, "arn:aws:iam:::user/"+u.ID)
	}
	for _, in := range u.Inline {
		p, err := policy.Parse([]byte(in.Document), policy.Identity, "")
		if err != nil {
			return nil, fmt.Errorf("policy %q of user %q: %w: %w", in.Name, u.Name, err, ErrCorrupt)
		}
		c.Grants = append(c.Grants, auth.Grant{Policy: p, Reach: in.Reach})
	}
	for _, name := range u.Attached {
		m := d.mu.policies[name]
		if m == nil {
			return nil, fmt.Errorf("policy %q of user %q, which there is not: %w", name, u.Name, ErrCorrupt)
		}
		c.Grants = append(c.Grants, auth.Grant{Policy: m.compiled, Reach: m.reachFor(u)})
	}
	return c, nil
}

// allowAll is the policy of keys that are held by nothing but their scope.
var allowAll = func() *policy.Policy {
	p, err := policy.Parse([]byte(canned["admin"].document), policy.Identity, "")
	if err != nil {
		panic("BUG: " + err.Error()) // a constant
	}
	return p
}()

// rootKeyCaller returns the caller of a key of the root, and whether it is as good as
// the root key itself.
func rootKeyCaller(scope []auth.BucketRole) (*auth.Caller, bool) {
	if scope == nil {
		return nil, true
	}
	c := *auth.RootCaller()
	c.Root, c.Grants = false, []auth.Grant{{Policy: allowAll, Reach: auth.ReachAll}}
	return scoped(&c, scope), false
}

// scoped returns c held to a scope.
func scoped(c *auth.Caller, scope []auth.BucketRole) *auth.Caller {
	if scope == nil {
		return c
	}
	held := *c
	held.Scope = scope
	return &held
}
