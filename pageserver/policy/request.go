package policy

// Request is what a policy decides about.
type Request struct {
	Principal Principal
	// Action is "service:Name".
	Action string
	// Resource is the ARN of what the action is done to, such as arn:aws:s3:::bucket/key.
	Resource string
	// Context has the values of condition keys. Nil has none.
	Context Context
}

// Context has the values of condition keys.
type Context interface {
	// Values returns the values of a key, which is in lower case; none when the request has no such thing.
	Values(key string) []string
}

func (r *Request) values(key string) []string {
	if r.Context == nil {
		return nil
	}
	return r.Context.Values(key)
}

// Principal is who asks, as resource policies may name it. The zero value is nobody:
// an anonymous request.
type Principal struct {
	// Names are all the texts that mean this principal alone: its ARNs and ids.
	Names []string
	// Accounts are the texts that mean everybody in the principal's account.
	Accounts []string
	// Canonical is the canonical user id.
	Canonical string
	// Service is the name of a service of the server itself, such as logging.s3.amazonaws.com.
	Service string
	// Delegated says that an Allow for the account as a whole does not count for the principal.
	Delegated bool
}

// Decision is what a policy says about a request.
type Decision byte

// The decisions, a later one wins over an earlier one.
const (
	None Decision = iota
	Allow
	Deny
)

// String returns the name.
func (d Decision) String() string { return [...]string{"none", "allow", "deny"}[d] }
