package identity

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"stemma/pageserver/auth"
	"stemma/pageserver/policy"
	"stemma/timeline"
)

// managed is a managed policy in memory.
type managed struct {
	Policy
	compiled *policy.Policy
}

func newManaged(p Policy) (*managed, error) {
	compiled, err := policy.Parse([]byte(p.Document), policy.Identity, "")
	if err != nil {
		return nil, fmt.Errorf("policy %q: %w: %w", p.Name, err, ErrCorrupt)
	}
	return &managed{Policy: p, compiled: compiled}, nil
}

// reachFor returns whose buckets the policy speaks of for a user that has it.
func (m *managed) reachFor(u *User) auth.Reach {
	switch {
	case u.Member && u.ID != auth.RootID:
		return auth.ReachAccount
	case m.Canned:
		return canned[m.Name].reach
	}
	return auth.ReachAll
}

// policy returns the managed policy with a name or an ARN. The caller holds d.mu.
func (d *Directory) policy(nameOrARN string) (*managed, error) {
	name := nameOrARN
	if strings.HasPrefix(name, "arn:") {
		_, path, _ := strings.Cut(name, ":policy/")
		name = path[strings.LastIndexByte(path, '/')+1:]
	}
	if alias, ok := aliases[name]; ok {
		name = alias
	}
	if m := d.mu.policies[name]; m != nil {
		return m, nil
	}
	return nil, fmt.Errorf("policy %q: %w", nameOrARN, ErrNoSuchPolicy)
}

// Policy returns the managed policy with a name or an ARN. Errors: ErrNoSuchPolicy.
func (d *Directory) Policy(nameOrARN string) (Policy, error) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	m, err := d.policy(nameOrARN)
	if err != nil {
		return Policy{}, err
	}
	return m.Policy, nil
}

// Policies returns all managed policies by name.
func (d *Directory) Policies() []Policy {
	d.mu.RLock()
	defer d.mu.RUnlock()
	list := make([]Policy, 0, len(d.mu.policies))
	for _, m := range d.mu.policies {
		list = append(list, m.Policy)
	}
	slices.SortFunc(list, func(a, b Policy) int { return strings.Compare(a.Name, b.Name) })
	return list
}

// CheckDocument refuses what is no policy of a user. Error: *policy.Error.
func CheckDocument(document string) error {
	_, err := policy.Parse([]byte(document), policy.Identity, "")
	return err
}

func checkPolicyName(s string) error {
	return checkChars("the name of the policy", s, "_+=,.@-", maxPolicyName)
}

// CreatePolicy makes a managed policy of a name, a document and a description. Errors: *policy.Error, ErrInvalid, ErrExists,
// and those of a commit.
func (d *Directory) CreatePolicy(ctx context.Context, p Policy) (Policy, error) {
	now := d.o.Now().UTC()
	p.Created, p.Updated, p.Canned = now, now, false
	if err := errors.Join(checkPolicyName(p.Name), CheckDocument(p.Document), checkPolicyDescription(p.Description)); err != nil {
		return Policy{}, err
	}
	err := d.change(ctx, func(b *timeline.Batch) (func(), error) {
		if _, err := d.policy(p.Name); err == nil {
			return nil, fmt.Errorf("policy %q: %w", p.Name, ErrExists)
		}
		return d.putPolicy(b, p)
	})
	return p, err
}

// checkPolicyDescription refuses what IAM refuses. Error: ErrInvalid.
func checkPolicyDescription(s string) error {
	if !utf8.ValidString(s) || utf8.RuneCountInString(s) > maxPolicyDescription {
		return invalid("the description of a policy has at most %d characters", maxPolicyDescription)
	}
	return nil
}

const maxPolicyDescription = 1000

// UpdatePolicy gives a managed policy another document, for all who have it, and another description unless that is nil. Errors:
// *policy.Error, ErrNoSuchPolicy, ErrInvalid of a canned one, and those of a commit.
func (d *Directory) UpdatePolicy(ctx context.Context, nameOrARN, document string, description *string) error {
	if err := CheckDocument(document); err != nil {
		return err
	}
	if description != nil {
		if err := checkPolicyDescription(*description); err != nil {
			return err
		}
	}
	return d.change(ctx, func(b *timeline.Batch) (func(), error) {
		old, err := d.policy(nameOrARN)
		if err != nil {
			return nil, err
		}
		if old.Canned {
			return nil, invalid("policy %q comes with the server", old.Name)
		}
		p := old.Policy
		p.Document, p.Updated = document, d.o.Now().UTC()
		if description != nil {
			p.Description = *description
		}
		return d.putPolicy(b, p)
	})
}

// putPolicy writes a policy, and has the users that have it changed with it.
func (d *Directory) putPolicy(b *timeline.Batch, p Policy) (apply func(), err error) {
	m, err := newManaged(p)
	if err != nil {
		return nil, err
	}
	putRecord(b, "policy/"+p.Name, &p)
	return func() {
		d.mu.policies[p.Name] = m
		for _, u := range d.usersWith(p.Name) {
			d.mustSet(u)
		}
	}, nil
}

// usersWith returns the users that a managed policy is attached to. The caller holds d.mu.
func (d *Directory) usersWith(name string) (list []*user) {
	for _, u := range d.mu.users {
		if slices.Contains(u.Attached, name) {
			list = append(list, u)
		}
	}
	return list
}

// DeletePolicy removes a managed policy. Unless it is forced, one that is attached
// stays; otherwise it is detached everywhere. Errors: ErrNoSuchPolicy, ErrInUse,
// ErrInvalid of a canned one, and those of a commit.
func (d *Directory) DeletePolicy(ctx context.Context, nameOrARN string, force bool) error {
	return d.change(ctx, func(b *timeline.Batch) (func(), error) {
		m, err := d.policy(nameOrARN)
		if err != nil {
			return nil, err
		}
		if m.Canned {
			return nil, invalid("policy %q comes with the server", m.Name)
		}
		var changed []*user
		for _, old := range d.usersWith(m.Name) {
			if !force {
				return nil, fmt.Errorf("policy %q is attached to user %q: %w", m.Name, old.Name, ErrInUse)
			}
			u := &user{User: old.User, keys: old.keys}
			u.Attached = slices.DeleteFunc(slices.Clone(old.Attached), func(s string) bool { return s == m.Name })
			putRecord(b, "user/"+u.Name, &u.User)
			changed = append(changed, u)
		}
		deleteRecord(b, "policy/"+m.Name)
		return func() {
			for _, u := range changed {
				d.mustSet(u)
			}
			delete(d.mu.policies, m.Name)
		}, nil
	})
}

// PutInline gives a user an inline policy, in place of one of the same name. Errors:
// *policy.Error, ErrNoSuchUser, ErrInvalid, ErrTooMany, and those of a commit.
func (d *Directory) PutInline(ctx context.Context, nameOrID string, in Inline) error {
	if err := errors.Join(checkPolicyName(in.Name), CheckDocument(in.Document)); err != nil {
		return err
	}
	return d.updateUser(ctx, nameOrID, func(u *User) error {
		if u.Member && u.ID != auth.RootID {
			in.Reach = auth.ReachAccount
		}
		i := slices.IndexFunc(u.Inline, func(have Inline) bool { return have.Name == in.Name })
		switch {
		case i >= 0:
			u.Inline[i] = in
		case len(u.Inline) == MaxUserPolicies:
			return fmt.Errorf("%d inline policies: %w", MaxUserPolicies, ErrTooMany)
		default:
			u.Inline = append(u.Inline, in)
		}
		return nil
	})
}

// DeleteInline takes an inline policy from a user. Errors: ErrNoSuchUser,
// ErrNoSuchPolicy, and those of a commit.
func (d *Directory) DeleteInline(ctx context.Context, nameOrID, name string) error {
	return d.updateUser(ctx, nameOrID, func(u *User) error {
		n := len(u.Inline)
		u.Inline = slices.DeleteFunc(u.Inline, func(have Inline) bool { return have.Name == name })
		if len(u.Inline) == n {
			return fmt.Errorf("inline policy %q: %w", name, ErrNoSuchPolicy)
		}
		return nil
	})
}

// Attach gives a user a managed policy. Errors: ErrNoSuchUser, ErrNoSuchPolicy,
// ErrTooMany, and those of a commit.
func (d *Directory) Attach(ctx context.Context, nameOrID, nameOrARN string) error {
	return d.updateUser(ctx, nameOrID, func(u *User) error {
		m, err := d.policy(nameOrARN)
		if err != nil {
			return err
		}
		switch {
		case slices.Contains(u.Attached, m.Name):
		case len(u.Attached) == MaxUserPolicies:
			return fmt.Errorf("%d attached policies: %w", MaxUserPolicies, ErrTooMany)
		default:
			u.Attached = append(u.Attached, m.Name)
		}
		return nil
	})
}

// Detach takes a managed policy from a user. Errors: ErrNoSuchUser, ErrNoSuchPolicy
// also when the user does not have it, and those of a commit.
func (d *Directory) Detach(ctx context.Context, nameOrID, nameOrARN string) error {
	return d.updateUser(ctx, nameOrID, func(u *User) error {
		m, err := d.policy(nameOrARN)
		if err != nil {
			return err
		}
		i := slices.Index(u.Attached, m.Name)
		if i < 0 {
			return fmt.Errorf("policy %q is not attached: %w", m.Name, ErrNoSuchPolicy)
		}
		u.Attached = slices.Delete(u.Attached, i, i+1)
		return nil
	})
}
