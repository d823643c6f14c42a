package object

import (
	"strconv"
	"strings"
)

// Website is how a bucket is served as a website, as S3's document has it.
type Website struct {
	Index       *IndexDocument `xml:"IndexDocument" json:",omitempty"`
	Error       *ErrorDocument `xml:"ErrorDocument" json:",omitempty"`
	RedirectAll *RedirectAll   `xml:"RedirectAllRequestsTo" json:",omitempty"`
	Routing     *RoutingRules  `xml:"RoutingRules" json:",omitempty"`
}

// IndexDocument is what a request for a directory gets.
type IndexDocument struct {
	Suffix *string `xml:"Suffix"` // behind the slash
}

// ErrorDocument is what a request that fails gets.
type ErrorDocument struct {
	Key *string `xml:"Key"`
}

// RedirectAll sends every request elsewhere.
type RedirectAll struct {
	HostName *string `xml:"HostName"`
	Protocol *string `xml:"Protocol" json:",omitempty"` // nil: that of the request
}

// RoutingRules are redirects of some requests; the first that fits is taken.
type RoutingRules struct {
	Rules []RoutingRule `xml:"RoutingRule"`
}

// RoutingRule is one redirect.
type RoutingRule struct {
	Condition *RoutingCondition `xml:"Condition" json:",omitempty"`
	Redirect  *RoutingRedirect  `xml:"Redirect"`
}

// RoutingCondition says which requests a rule is for; what is set must hold.
type RoutingCondition struct {
	KeyPrefix *string `xml:"KeyPrefixEquals" json:",omitempty"`
	ErrorCode *string `xml:"HttpErrorCodeReturnedEquals" json:",omitempty"`
}

// RoutingRedirect says where to; what is not set stays.
type RoutingRedirect struct {
	Protocol         *string `xml:"Protocol" json:",omitempty"`
	HostName         *string `xml:"HostName" json:",omitempty"`
	Code             *string `xml:"HttpRedirectCode" json:",omitempty"`
	ReplaceKeyPrefix *string `xml:"ReplaceKeyPrefixWith" json:",omitempty"`
	ReplaceKey       *string `xml:"ReplaceKeyWith" json:",omitempty"`
}

const maxRoutingRules = 50

// Check refuses what S3 refuses. Errors: *RuleError.
func (w *Website) Check() error {
	if all := w.RedirectAll; all != nil {
		if w.Index != nil || w.Error != nil || w.Routing != nil {
			return invalidRequest("RedirectAllRequestsTo cannot be provided in conjunction with other Routing Rules.")
		}
		if all.HostName == nil || *all.HostName == "" {
			return malformed
		}
		return checkWhere(all.HostName, all.Protocol)
	}
	switch {
	case w.Index == nil || w.Index.Suffix == nil || *w.Index.Suffix == "":
		return invalidArgument("A value for IndexDocument Suffix must be provided if RedirectAllRequestsTo is empty")
	case strings.Contains(*w.Index.Suffix, "/") || len(*w.Index.Suffix) > MaxKeyBytes:
		return invalidArgument("The IndexDocument Suffix is not well formed")
	case w.Error != nil && (w.Error.Key == nil || *w.Error.Key == ""):
		return malformed
	case w.Error != nil && len(*w.Error.Key) > MaxKeyBytes:
		return invalidArgument("The ErrorDocument Key is not well formed")
	case w.Routing == nil:
		return nil
	case len(w.Routing.Rules) == 0:
		return malformed
	case len(w.Routing.Rules) > maxRoutingRules:
		return invalidRequest("%d routing rules provided, the number of routing rules in a website configuration is limited to %d.", len(w.Routing.Rules), maxRoutingRules)
	}
	for i := range w.Routing.Rules {
		if err := w.Routing.Rules[i].check(); err != nil {
			return err
		}
	}
	return nil
}

func (r *RoutingRule) check() error {
	if c := r.Condition; c != nil {
		if c.KeyPrefix == nil && c.ErrorCode == nil {
			return invalidRequest("Condition cannot be empty. To redirect all requests without a condition, the condition element shouldn't be present.")
		}
		if c.ErrorCode != nil {
			if n, err := strconv.Atoi(*c.ErrorCode); err != nil || n < 400 || n > 599 {
				return invalidRequest("The provided HTTP error code (%s) is not valid. Valid codes are 4XX or 5XX.", *c.ErrorCode)
			}
		}
	}
	d := r.Redirect
	if d == nil || *d == (RoutingRedirect{}) {
		return malformed
	}
	if d.Code != nil {
		if n, err := strconv.Atoi(*d.Code); err != nil || n <= 300 || n > 399 {
			return invalidRequest("The provided HTTP redirect code (%s) is not valid. Valid codes are 3XX except 300.", *d.Code)
		}
	}
	if d.ReplaceKey != nil && d.ReplaceKeyPrefix != nil {
		return invalidRequest("You can only define ReplaceKeyPrefix or ReplaceKey but not both.")
	}
	return checkWhere(d.HostName, d.Protocol)
}

func checkWhere(host, protocol *string) error {
	if protocol != nil && *protocol != "http" && *protocol != "https" {
		return invalidRequest("Invalid protocol, protocol can be http or https. If not defined the protocol will be selected automatically.")
	}
	if host == nil {
		return nil
	}
	if *host == "" || len(*host) > 255 || strings.ContainsFunc(*host, func(c rune) bool {
		return !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.ContainsRune(".-_:[]", c))
	}) {
		return invalidRequest("The provided host name is not valid.")
	}
	return nil
}

// Redirect returns the redirect for a request for a key that would be answered with a status
// in the 400s or 500s, or with zero if that is not known yet: then only rules without such a condition
// count. nil: there is none.
func (w *Website) Redirect(key string, status int) *RoutingRule {
	if w.Routing == nil {
		return nil
	}
	for i := range w.Routing.Rules {
		r := &w.Routing.Rules[i]
		c := r.Condition
		if c == nil {
			c = &RoutingCondition{}
		}
		if c.KeyPrefix != nil && !strings.HasPrefix(key, *c.KeyPrefix) {
			continue
		}
		if (c.ErrorCode != nil) != (status != 0) || c.ErrorCode != nil && *c.ErrorCode != strconv.Itoa(status) {
			continue
		}
		return r
	}
	return nil
}

// Target returns the key that the rule leads to from a key.
func (r *RoutingRule) Target(key string) string {
	switch d := r.Redirect; {
	case d.ReplaceKey != nil:
		return *d.ReplaceKey
	case d.ReplaceKeyPrefix != nil:
		if c := r.Condition; c != nil && c.KeyPrefix != nil {
			key = strings.TrimPrefix(key, *c.KeyPrefix)
		}
		return *d.ReplaceKeyPrefix + key
	}
	return key
}
