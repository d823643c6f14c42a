package s3api

import (
	"slices"
	"strings"

	"stemma/pageserver/object"
)

// tigrisRuleJSON is a rule of a lifecycle as clients of Tigris have it.
type tigrisRuleJSON struct {
	ID          string                 `json:"id,omitempty"`
	Status      int                    `json:"status"` // 1 enabled, 2 disabled
	Expiration  *tigrisExpirationJSON  `json:"expiration,omitempty"`
	Transitions []tigrisTransitionJSON `json:"transitions,omitempty"`
	Filter      *tigrisFilterJSON      `json:"filter,omitempty"`
}

type tigrisExpirationJSON struct {
	Days    *int32  `json:"days,omitempty"`
	Date    *string `json:"date,omitempty"`
	Enabled *bool   `json:"enabled,omitempty"`
}

type tigrisTransitionJSON struct {
	Class string  `json:"storage_class"`
	Days  *int32  `json:"days,omitempty"`
	Date  *string `json:"date,omitempty"`
}

type tigrisFilterJSON struct {
	Prefix string `json:"prefix"`
}

// tigrisRules returns the rules of a lifecycle that clients of Tigris can have made.
func tigrisRules(l *object.Lifecycle) []tigrisRuleJSON {
	if l == nil {
		return nil
	}
	var list []tigrisRuleJSON
	for i := range l.Rules {
		if l.Rules[i].Plain() {
			list = append(list, tigrisRule(&l.Rules[i]))
		}
	}
	return list
}

func tigrisRule(r *object.LifecycleRule) tigrisRuleJSON {
	out := tigrisRuleJSON{Status: 2}
	enabled := r.Status == "Enabled"
	if enabled {
		out.Status = 1
	}
	if r.ID != nil {
		out.ID = *r.ID
	}
	if prefix := r.Prefix; prefix != nil && *prefix != "" {
		out.Filter = &tigrisFilterJSON{*prefix}
	} else if f := r.Filter; f != nil && f.Prefix != nil && *f.Prefix != "" {
		out.Filter = &tigrisFilterJSON{*f.Prefix}
	}
	if x := r.Expiration; x != nil {
		out.Expiration = &tigrisExpirationJSON{Days: x.Days, Date: plainDate(x.Date), Enabled: &enabled}
	}
	for _, x := range r.Transitions {
		out.Transitions = append(out.Transitions, tigrisTransitionJSON{Class: *x.Class, Days: x.Days, Date: plainDate(x.Date)})
	}
	return out
}

// plainDate returns the day of a time, which is midnight.
func plainDate(s *string) *string {
	if s == nil {
		return nil
	}
	day, _, _ := strings.Cut(*s, "T")
	return &day
}

// rule is the reverse of tigrisRule. Errors: InvalidArgument.
func (in *tigrisRuleJSON) rule() (object.LifecycleRule, error) {
	out := object.LifecycleRule{Filter: &object.LifecycleFilter{Prefix: new(string)}}
	switch in.Status {
	case 1:
		out.Status = "Enabled"
	case 2:
		out.Status = "Disabled"
	default:
		return out, invalidArgument("status", itoa(in.Status), "The status of a rule is 1, enabled, or 2, disabled")
	}
	if in.ID != "" {
		out.ID = &in.ID
	}
	if in.Filter != nil {
		out.Filter.Prefix = &in.Filter.Prefix
	}
	if x := in.Expiration; x != nil {
		if x.Enabled != nil && *x.Enabled != (in.Status == 1) {
			return out, invalidArgument("expiration", "", "An expiration is enabled with its rule")
		}
		out.Expiration = &object.Expiration{Days: x.Days, Date: x.Date}
	}
	for i := range in.Transitions {
		x := &in.Transitions[i]
		out.Transitions = append(out.Transitions, object.Transition{Class: &x.Class, Days: x.Days, Date: x.Date})
	}
	return out, nil
}

// setTigrisRules gives a lifecycle the rules, in place of those that tigrisRules tells. Errors: *object.RuleError.
func setTigrisRules(set *object.Settings, rules []object.LifecycleRule) error {
	next := &object.Lifecycle{}
	if old := set.Lifecycle; old != nil {
		next.MinimumSize = old.MinimumSize
		next.Rules = slices.DeleteFunc(slices.Clone(old.Rules), func(r object.LifecycleRule) bool { return r.Plain() })
	}
	next.Rules = append(next.Rules, rules...)
	if set.Lifecycle = next; len(next.Rules) == 0 {
		set.Lifecycle = nil
		return nil
	}
	return next.Complete()
}

// tigrisCORSJSON is which pages may use a bucket, as clients of Tigris have it.
type tigrisCORSJSON struct {
	Rules []tigrisCORSRuleJSON `json:"rules"`
}

type tigrisCORSRuleJSON struct {
	Origins []string `json:"allowedOrigin"`
	Methods []string `json:"allowedMethods"`
	Headers []string `json:"allowedHeaders"`
	Expose  []string `json:"exposeHeaders"`
	MaxAge  *int32   `json:"maxAge,omitempty"`
}

func tigrisCORS(c *object.CORS) *tigrisCORSJSON {
	if c == nil {
		return nil
	}
	out := &tigrisCORSJSON{}
	for i := range c.Rules {
		r := &c.Rules[i]
		out.Rules = append(out.Rules, tigrisCORSRuleJSON{
			Origins: r.AllowedOrigins, Methods: r.AllowedMethods, Headers: r.AllowedHeaders, Expose: r.ExposeHeaders, MaxAge: r.MaxAgeSeconds,
		})
	}
	return out
}

// corsMethods are those that a rule can allow; any is all of them.
var corsMethods = []string{"GET", "PUT", "HEAD", "POST", "DELETE"}

// cors is the reverse of tigrisCORS. Errors: *object.RuleError.
func (in *tigrisCORSJSON) cors() (*object.CORS, error) {
	out := &object.CORS{}
	for _, r := range in.Rules {
		if slices.Equal(r.Methods, []string{"*"}) {
			r.Methods = corsMethods
		}
		out.Rules = append(out.Rules, object.CORSRule{
			AllowedOrigins: r.Origins, AllowedMethods: r.Methods, AllowedHeaders: r.Headers, ExposeHeaders: r.Expose, MaxAgeSeconds: r.MaxAge,
		})
	}
	return out, out.Check()
}
