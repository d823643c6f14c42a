package iam

import (
	"context"
	"net/http"
	"strconv"
	"strings"
	"time"

	"stemma/pageserver/auth"
	"stemma/pageserver/policy"
)

var actions = map[string]action{
	"AssumeRole":        {namespace: stsNamespace, run: (*API).assumeRole, params: []string{"RoleArn", "RoleSessionName", "DurationSeconds", "Policy", "ExternalId"}},
	"GetSessionToken":   {namespace: stsNamespace, run: (*API).getSessionToken, params: []string{"DurationSeconds"}},
	"GetCallerIdentity": {namespace: stsNamespace, run: (*API).getCallerIdentity},
}

// Lengths of sessions, in seconds.
const (
	minSession           = 900
	maxRoleSession       = 43_200
	defaultRoleSession   = 3600
	maxTokenSession      = 129_600
	defaultTokenSession  = 43_200
	maxSessionName       = 64
	maxSessionPolicy     = 2048 // characters, as AWS has it
	sessionTokenName     = "session-token"
	sessionNameMoreChars = "_+=,.@-"
)

type credentialsXML struct {
	AccessKeyID     string `xml:"AccessKeyId" json:"AccessKeyId"`
	SecretAccessKey string `xml:"SecretAccessKey"`
	SessionToken    string `xml:"SessionToken"`
	Expiration      string `xml:"Expiration"`
}

type assumedRoleXML struct {
	Credentials      credentialsXML `xml:"Credentials"`
	AssumedRoleUser  assumedUserXML `xml:"AssumedRoleUser"`
	PackedPolicySize int            `xml:"PackedPolicySize"`
}

type assumedUserXML struct {
	ID  string `xml:"AssumedRoleId" json:"AssumedRoleId"`
	ARN string `xml:"Arn" json:"Arn"`
}

// assumeRole begins a session of the caller, which a policy can bound. There are no roles
// of their own: the session may do what the caller may, whatever the role is called.
func (a *API) assumeRole(_ context.Context, r *Request) (any, error) {
	role, err := roleOf(r.Params.Get("RoleArn"))
	if err != nil {
		return nil, err
	}
	name := r.Params.Get("RoleSessionName")
	if len(name) < 2 || len(name) > maxSessionName || strings.ContainsFunc(name, func(c rune) bool {
		return (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && !strings.ContainsRune(sessionNameMoreChars, c)
	}) {
		return nil, invalid("RoleSessionName must have 2 to %d letters, digits and %s", maxSessionName, sessionNameMoreChars)
	}
	document := r.Params.Get("Policy")
	if len(document) > maxSessionPolicy {
		return nil, refuse(http.StatusBadRequest, "PackedPolicyTooLarge", "The policy of a session has at most %d characters", maxSessionPolicy)
	}
	length, err := sessionLength(r, defaultRoleSession, maxRoleSession)
	if err != nil {
		return nil, err
	}
	c, err := a.begin(r, "sts:AssumeRole", r.Params.Get("RoleArn"), name, document, length)
	if err != nil {
		return nil, err
	}
	return &assumedRoleXML{
		Credentials: *c, PackedPolicySize: len(document) * 100 / maxSessionPolicy,
		AssumedRoleUser: assumedUserXML{ID: r.Caller.Unique + ":" + name, ARN: sessionARN(r.Caller, role, name)},
	}, nil
}

// roleOf returns the name of the role that an ARN names.
func roleOf(arn string) (string, error) {
	parts := strings.SplitN(arn, ":", 6)
	if len(parts) != 6 || parts[0] != "arn" || parts[2] != "iam" {
		return "", invalid("RoleArn must be the ARN of a role")
	}
	path, ok := strings.CutPrefix(parts[5], "role/")
	name := path[strings.LastIndexByte(path, '/')+1:]
	if !ok || name == "" || len(arn) > 2048 {
		return "", invalid("RoleArn must be the ARN of a role")
	}
	return name, nil
}

// getSessionToken begins a session of the caller that nothing bounds.
func (a *API) getSessionToken(_ context.Context, r *Request) (any, error) {
	length, err := sessionLength(r, defaultTokenSession, maxTokenSession)
	if err != nil {
		return nil, err
	}
	c, err := a.begin(r, "sts:GetSessionToken", "*", sessionTokenName, "", length)
	if err != nil {
		return nil, err
	}
	return &struct {
		Credentials *credentialsXML `xml:"Credentials"`
	}{c}, nil
}

func sessionLength(r *Request, otherwise, most int) (time.Duration, error) {
	seconds := otherwise
	if text := r.Params.Get("DurationSeconds"); text != "" {
		var err error
		if seconds, err = strconv.Atoi(text); err != nil || seconds < minSession || seconds > most {
			return 0, invalid("DurationSeconds must be a number from %d to %d", minSession, most)
		}
	}
	return time.Duration(seconds) * time.Second, nil
}

// begin begins a session, which everybody may of itself unless that is denied. A session
// begins no other.
func (a *API) begin(r *Request, action, resource, name, document string, length time.Duration) (*credentialsXML, error) {
	if d, _ := r.decision(action, resource); d == policy.Deny || r.Caller.Session != "" {
		return nil, denied(r, action, resource)
	}
	s, token, err := a.users.NewSession(r.KeyID, name, document, length)
	if err != nil {
		return nil, err
	}
	return &credentialsXML{s.ID, s.Secret, token, time8601(s.Expires)}, nil
}

// sessionARN names a session.
func sessionARN(c *auth.Caller, role, name string) string {
	return "arn:aws:sts::" + auth.AccountNumber(c.ID) + ":assumed-role/" + role + "/" + name
}

// getCallerIdentity says who asks. Everybody may know that.
func (a *API) getCallerIdentity(_ context.Context, r *Request) (any, error) {
	c := r.Caller
	answer := struct {
		ARN     string `xml:"Arn" json:"Arn"`
		UserID  string `xml:"UserId" json:"UserId"`
		Account string `xml:"Account"`
	}{c.ARN, c.Unique, auth.AccountNumber(c.ID)}
	if c.Session != "" && c.Session != sessionTokenName {
		answer.ARN, answer.UserID = sessionARN(c, c.Name, c.Session), c.Unique+":"+c.Session
	}
	return &answer, nil
}
