package policy

import (
	"encoding/json"
	"slices"
	"strings"
)

// builder makes a statement of its JSON.
type builder struct {
	statement
	kind   Kind
	bucket string
	vars   bool // the version has policy variables
	sid    string
}

func (b *builder) parse(raw json.RawMessage) error {
	if len(raw) == 0 || raw[0] != '{' {
		return malformed("Invalid policy syntax: Statement must be an object or a list of objects")
	}
	fields, err := parseObject(raw)
	if err != nil {
		return err
	}
	seen := make(map[string]bool)
	for _, f := range fields {
		seen[f.name] = true
		if err := b.parseField(f); err != nil {
			return err
		}
	}
	switch {
	case !seen["Effect"]:
		return malformed("Missing required field Effect")
	case !seen["Action"] && !seen["NotAction"]:
		return malformed("Missing required field Action")
	case seen["Action"] && seen["NotAction"]:
		return malformed("Action and NotAction must not both be there")
	case seen["Resource"] && seen["NotResource"]:
		return malformed("Resource and NotResource must not both be there")
	case seen["Principal"] && seen["NotPrincipal"]:
		return malformed("Principal and NotPrincipal must not both be there")
	case b.kind != Trust && !seen["Resource"] && !seen["NotResource"]:
		return malformed("Missing required field Resource")
	case b.kind != Identity && !seen["Principal"] && !seen["NotPrincipal"]:
		return malformed("Missing required field Principal")
	case b.notPrincipal && b.effect == Allow:
		return malformed("Allow with NotPrincipal is not allowed")
	}
	return nil
}

func (b *builder) parseField(f field) error {
	switch f.name {
	case "Sid":
		if err := checkString(f); err != nil {
			return err
		}
		return json.Unmarshal(f.value, &b.sid)
	case "Effect":
		return b.parseEffect(f)
	case "Principal", "NotPrincipal":
		b.notPrincipal = f.name == "NotPrincipal"
		return b.parsePrincipals(f)
	case "Action", "NotAction":
		b.notAction = f.name == "NotAction"
		return b.parseActions(f)
	case "Resource", "NotResource":
		b.notResource = f.name == "NotResource"
		return b.parseResources(f)
	case "Condition":
		return b.parseConditions(f)
	}
	return malformed("Unknown field %s", clip(f.name))
}

func (b *builder) parseEffect(f field) error {
	switch string(f.value) {
	case `"Allow"`:
		b.effect = Allow
	case `"Deny"`:
		b.effect = Deny
	default:
		return malformed("Invalid effect: %s", clip(string(f.value)))
	}
	return nil
}

func (b *builder) parsePrincipals(f field) error {
	if b.kind == Identity {
		return malformed("Policy document should not specify a principal.")
	}
	invalid := malformed("Invalid principal in policy")
	l := &principals{}
	b.principals = l
	if string(f.value) == `"*"` {
		l.all = true
		return nil
	}
	if f.value[0] != '{' {
		return invalid
	}
	kinds, err := parseObject(f.value)
	if err != nil {
		return err
	}
	if len(kinds) == 0 {
		return invalid
	}
	for _, k := range kinds {
		list, err := parseStrings(k, false)
		if err != nil || len(list) == 0 {
			return invalid
		}
		for _, name := range list {
			if name == "" {
				return invalid
			}
		}
		switch k.name {
		case "AWS":
			for _, name := range list {
				if name == "*" {
					l.all = true
				} else if !validPrincipal(name) {
					return invalid
				}
			}
			l.names = append(l.names, list...)
		case "CanonicalUser":
			l.canonical = append(l.canonical, list...)
		case "Service":
			l.services = append(l.services, list...)
		case "Federated":
			if b.kind != Trust {
				return invalid
			}
		default:
			return invalid
		}
	}
	return nil
}

// validPrincipal reports whether a name can be that of an account, a user or a role:
// an ARN of IAM or STS without wildcards, or an id.
func validPrincipal(name string) bool {
	if strings.ContainsAny(name, "*? \t\r\n") {
		return false
	}
	if !strings.HasPrefix(name, "arn:") {
		return !strings.ContainsAny(name, ":/")
	}
	parts := strings.SplitN(name, ":", 6)
	return len(parts) == 6 && (parts[2] == "iam" || parts[2] == "sts") && parts[5] != ""
}

func (b *builder) parseActions(f field) error {
	list, err := parseStrings(f, false)
	if err != nil {
		return err
	}
	if len(list) == 0 {
		return malformed("Missing required field Action")
	}
	for _, name := range list {
		p, ok := compile(name, true, false)
		if !ok || !b.validAction(name, &p) {
			return malformed("Policy has invalid action")
		}
		b.actions = append(b.actions, p)
	}
	return nil
}

// validAction reports whether an action can mean something: in the policy of a bucket
// an action that there is, else one of any service.
func (b *builder) validAction(name string, p *pattern) bool {
	if name == "*" {
		return true
	}
	service, action, ok := strings.Cut(name, ":")
	if !ok || action == "" || service == "" {
		return false
	}
	if b.kind != Resource {
		return true
	}
	return slices.ContainsFunc(Actions, func(a string) bool { return p.matchFold(a, &Request{}) })
}

func (b *builder) parseResources(f field) error {
	if b.kind == Trust {
		return malformed("Has prohibited field Resource")
	}
	list, err := parseStrings(f, false)
	if err != nil {
		return err
	}
	if len(list) == 0 {
		return malformed("Missing required field Resource")
	}
	for _, name := range list {
		p, ok := compile(name, true, b.vars)
		if !ok || !b.validResource(name) {
			return malformed("Policy has invalid resource")
		}
		b.resources = append(b.resources, p)
	}
	return nil
}

// validResource reports whether a resource is "*" or an ARN, and in the policy of a
// bucket whether it can be the bucket or an object in it.
func (b *builder) validResource(name string) bool {
	if name == "*" {
		return true
	}
	if b.kind != Resource {
		return strings.HasPrefix(name, "arn:")
	}
	parts := strings.SplitN(name, ":", 6)
	if len(parts) != 6 || parts[0] != "arn" || parts[2] != "s3" {
		return false
	}
	bucket, _, _ := strings.Cut(parts[5], "/")
	p, ok := compile(bucket, true, false)
	return ok && p.match(b.bucket, &Request{})
}

func (b *builder) parseConditions(f field) error {
	if f.value[0] != '{' {
		return malformed("Invalid policy syntax: Condition must be an object")
	}
	ops, err := parseObject(f.value)
	if err != nil {
		return err
	}
	for _, op := range ops {
		proto, ok := findOperator(op.name)
		if !ok {
			return malformed("Invalid Condition type: %s", clip(op.name))
		}
		if op.value[0] != '{' {
			return malformed("Invalid policy syntax: %s must be an object", clip(op.name))
		}
		keys, err := parseObject(op.value)
		if err != nil {
			return err
		}
		for _, k := range keys {
			c := proto
			if err := b.parseCondition(&c, k); err != nil {
				return err
			}
			b.conditions = append(b.conditions, c)
		}
	}
	return nil
}

func (b *builder) parseCondition(c *condition, k field) error {
	c.key = strings.ToLower(k.name)
	if c.key == "" || (b.kind == Resource && !knownKey(c.key)) {
		return malformed("Policy has an invalid condition key: %s", clip(k.name))
	}
	list, err := parseStrings(k, true)
	if err != nil {
		return err
	}
	if len(list) == 0 || (c.op.null && len(list) != 1) {
		return malformed("Policy has an invalid condition: %s needs a value", clip(k.name))
	}
	for _, s := range list {
		o, ok := c.op.compile(s, b.vars)
		if !ok {
			return malformed("Policy has an invalid condition: %s is no value for %s", clip(s), c.op.name)
		}
		c.values = append(c.values, o)
	}
	return nil
}
