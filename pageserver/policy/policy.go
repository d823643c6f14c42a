package policy

import "slices"

// Policy is a policy, compiled. It does not change. Safe for concurrent use.
type Policy struct {
	statements []statement
	public     bool
}

type statement struct {
	effect Decision // Allow or Deny
	// principals is nil in policies of identities.
	principals   *principals
	notPrincipal bool
	actions      []pattern
	notAction    bool
	resources    []pattern // none: any, in trust policies
	notResource  bool
	conditions   []condition
}

// Evaluate says what the policy decides.
func (p *Policy) Evaluate(r *Request) Decision {
	d := None
	for i := range p.statements {
		if s := &p.statements[i]; s.effect > d && s.applies(r) {
			if d = s.effect; d == Deny {
				break
			}
		}
	}
	return d
}

// Public reports whether the policy lets everybody do something: whether a statement
// allows all principals and has no condition that holds it to fixed values.
func (p *Policy) Public() bool { return p.public }

func (s *statement) applies(r *Request) bool {
	if s.principals != nil && s.principals.match(&r.Principal, s.effect) == s.notPrincipal {
		return false
	}
	if s.matchAction(r) == s.notAction || s.matchResource(r) == s.notResource {
		return false
	}
	for i := range s.conditions {
		if !s.conditions[i].holds(r) {
			return false
		}
	}
	return true
}

func (s *statement) matchAction(r *Request) bool {
	for i := range s.actions {
		if s.actions[i].matchFold(r.Action, r) {
			return true
		}
	}
	return false
}

func (s *statement) matchResource(r *Request) bool {
	for i := range s.resources {
		if s.resources[i].match(r.Resource, r) {
			return true
		}
	}
	return len(s.resources) == 0
}

// principals is the value of Principal or NotPrincipal.
type principals struct {
	all       bool // "*" or {"AWS": "*"}
	names     []string
	canonical []string
	services  []string
}

// match reports whether p is meant by a statement of an effect.
func (l *principals) match(p *Principal, effect Decision) bool {
	if l.all || (p.Canonical != "" && slices.Contains(l.canonical, p.Canonical)) || (p.Service != "" && slices.Contains(l.services, p.Service)) {
		return true
	}
	for _, name := range l.names {
		if slices.Contains(p.Names, name) || (slices.Contains(p.Accounts, name) && (effect == Deny || !p.Delegated)) {
			return true
		}
	}
	return false
}
