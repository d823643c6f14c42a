package iam

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"stemma/pageserver/auth"
	"stemma/pageserver/identity"
	"stemma/pageserver/policy"
)

// API is both services over the users of a store. Safe for concurrent use.
type API struct {
	users *identity.Directory
	now   func() time.Time
}

// New returns the services; now is the wall clock.
func New(users *identity.Directory, now func() time.Time) *API { return &API{users, now} }

// Request is one request. Who sent it was proved.
type Request struct {
	Params url.Values // Action among them
	Caller *auth.Caller
	KeyID  string // with which it was signed
	ID     string // for the answer
	// JSON says that the client wants that rather than XML.
	JSON bool
	// Buckets are those that keys are held to.
	Buckets Buckets
	// Conditions has the values of condition keys.
	Conditions policy.Context
}

// Error is a refusal in the words of the services.
type Error struct {
	Code, Message string
	Status        int // of HTTP
}

func (e *Error) Error() string { return "iam: " + e.Code + ": " + e.Message }

func refuse(status int, code, format string, args ...any) error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...), Status: status}
}

// invalid is the refusal of a parameter.
func invalid(format string, args ...any) error {
	return refuse(http.StatusBadRequest, "ValidationError", format, args...)
}

// denied is the refusal of an action.
func denied(r *Request, action, resource string) error {
	who := r.Caller.ARN
	if who == "" {
		who = "nobody"
	}
	return refuse(http.StatusForbidden, "AccessDenied", "%s is not authorized to perform: %s on resource: %s", who, action, resource)
}

// The namespaces of the answers.
const (
	stsNamespace = "https://sts.amazonaws.com/doc/2011-06-15/"
	iamNamespace = "https://iam.amazonaws.com/doc/2010-05-08/"
)

// action is one action of a service.
type action struct {
	namespace string
	// params are those that it knows; one that ends in a dot begins a list.
	params []string
	// run does it and returns the content of the element ActionResult, nil for none; or
	// the whole answer, if that is JSON.
	run  func(*API, context.Context, *Request) (any, error)
	json bool
}

// Serve does what a request asks for and returns a document, and whether that is JSON,
// and not XML. Error: *Error, or that of a commit.
func (a *API) Serve(ctx context.Context, r *Request) (answer []byte, isJSON bool, err error) {
	name := r.actionName()
	act, ok := actions[name]
	if !ok {
		return nil, false, refuse(http.StatusBadRequest, "InvalidAction", "The action %s is not valid for this endpoint.", clip(r.Params.Get("Action")))
	}
	result, err := a.serve(ctx, r, name, &act)
	if err != nil {
		return nil, false, worded(err)
	}
	if act.json {
		answer, err = json.Marshal(result)
		return answer, true, err
	}
	if r.JSON {
		answer, err = jsonDocument(name, result)
		return answer, true, err
	}
	answer, err = document(act.namespace, name, r.ID, result)
	return answer, false, err
}

// serve checks the parameters and does the action.
func (a *API) serve(ctx context.Context, r *Request, name string, act *action) (any, error) {
	for p, values := range r.Params {
		if p != "Action" && p != "Version" && !knows(act.params, p) {
			return nil, refuse(http.StatusBadRequest, "InvalidParameterValue", "The parameter %s is not supported by %s", clip(p), name)
		}
		if len(values) > 1 {
			return nil, refuse(http.StatusBadRequest, "InvalidParameterValue", "The parameter %s is there twice", clip(p))
		}
	}
	if r.Caller.Anonymous() {
		return nil, refuse(http.StatusForbidden, "MissingAuthenticationToken", "Request is missing Authentication Token")
	}
	return act.run(a, ctx, r)
}

func knows(params []string, name string) bool {
	for _, p := range params {
		if p == name || strings.HasSuffix(p, ".") && strings.HasPrefix(name, p) {
			return true
		}
	}
	return false
}

func clip(s string) string {
	if len(s) > 64 {
		return s[:64]
	}
	return s
}

// worded returns an error of the directory as the services word it.
func worded(err error) error {
	var known *Error
	var malformed *policy.Error
	switch {
	case errors.As(err, &known):
		return known
	case errors.As(err, &malformed):
		return refuse(http.StatusBadRequest, "MalformedPolicyDocument", "%s", malformed.Message)
	}
	for _, e := range []struct {
		err    error
		status int
		code   string
	}{
		{identity.ErrNoSuchUser, http.StatusNotFound, "NoSuchEntity"},
		{identity.ErrNoSuchKey, http.StatusNotFound, "NoSuchEntity"},
		{identity.ErrNoSuchPolicy, http.StatusNotFound, "NoSuchEntity"},
		{identity.ErrExists, http.StatusConflict, "EntityAlreadyExists"},
		{identity.ErrInUse, http.StatusConflict, "DeleteConflict"},
		{identity.ErrTooMany, http.StatusConflict, "LimitExceeded"},
		{identity.ErrInvalid, http.StatusBadRequest, "ValidationError"},
	} {
		if errors.Is(err, e.err) {
			return refuse(e.status, e.code, "%s", strings.TrimSuffix(err.Error(), ": "+e.err.Error()))
		}
	}
	return err
}

// document returns <NameResponse><NameResult>…</NameResult><ResponseMetadata>….
func document(namespace, name, id string, result any) ([]byte, error) {
	var b bytes.Buffer
	fmt.Fprintf(&b, `<%sResponse xmlns="%s">`, name, namespace)
	if result != nil {
		e := xml.NewEncoder(&b)
		if err := e.EncodeElement(result, xml.StartElement{Name: xml.Name{Local: name + "Result"}}); err != nil {
			return nil, fmt.Errorf("iam: encode the answer of %s: %w", name, err)
		}
	}
	b.WriteString("<ResponseMetadata><RequestId>")
	if err := xml.EscapeText(&b, []byte(id)); err != nil {
		return nil, err
	}
	fmt.Fprintf(&b, "</RequestId></ResponseMetadata></%sResponse>", name)
	return b.Bytes(), nil
}

// jsonDocument returns {"NameResult": …}, as clients of Tigris read the answers of AWS.
func jsonDocument(name string, result any) ([]byte, error) {
	if result == nil {
		return json.Marshal(&doneJSON{"success"})
	}
	return json.Marshal(map[string]any{name + "Result": result})
}

// ErrorDocument returns the document of a refusal.
func ErrorDocument(e *Error, id string) []byte {
	kind := "Sender"
	if e.Status >= 500 {
		kind = "Receiver"
	}
	var b bytes.Buffer
	text := func(tag, s string) {
		b.WriteString("<" + tag + ">")
		_ = xml.EscapeText(&b, []byte(s)) // of a buffer: it cannot fail
		b.WriteString("</" + tag + ">")
	}
	b.WriteString(`<ErrorResponse xmlns="` + iamNamespace + `"><Error>`)
	text("Type", kind)
	text("Code", e.Code)
	text("Message", e.Message)
	b.WriteString("</Error>")
	text("RequestId", id)
	b.WriteString("</ErrorResponse>")
	return b.Bytes()
}

// time8601 is a time as the services write it.
func time8601(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05Z") }

// decision is what is attached to the caller says about an action on a resource, and how
// far that reaches.
func (r *Request) decision(action, resource string) (d policy.Decision, reach auth.Reach) {
	q := &policy.Request{Principal: r.Caller.Principal, Action: action, Resource: resource, Context: r.Conditions}
	if r.Caller.Bound != nil && r.Caller.Bound.Evaluate(q) != policy.Allow {
		return policy.Deny, 0
	}
	for i := range r.Caller.Grants {
		switch g := &r.Caller.Grants[i]; g.Policy.Evaluate(q) {
		case policy.Deny:
			return policy.Deny, 0
		case policy.Allow:
			d, reach = policy.Allow, max(reach, g.Reach)
		}
	}
	return d, reach
}
