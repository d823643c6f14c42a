package identity

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"time"

	"stemma/pageserver/auth"
	"stemma/pageserver/keyring"
	"stemma/pageserver/policy"
)

// Session is what a session token says, sealed by the master keys. Nothing of it is stored.
type Session struct {
	ID      string    `json:"id"` // of the temporary key
	Secret  string    `json:"secret"`
	Expires time.Time `json:"expires"`
	// Parent is the id of the key that began the session: the session ends with it.
	Parent string `json:"parent"`
	// Name is that of the session, Policy the document that bounds it, if there is one.
	Name   string `json:"name"`
	Policy string `json:"policy,omitempty"`
}

const (
	sessionContext = "session-token"
	maxTokenBytes  = 8 << 10
)

// NewSession begins a session of whoever has the key parent, which ends after d. Name
// must not be empty. Error: *policy.Error.
func (d *Directory) NewSession(parent, name, document string, length time.Duration) (s Session, token string, err error) {
	if document != "" {
		if err := CheckDocument(document); err != nil {
			return s, "", err
		}
	}
	s = Session{
		ID: unique("STSA"), Secret: newSecret(), Expires: d.o.Now().Add(length).UTC().Truncate(time.Second),
		Parent: parent, Name: name, Policy: document,
	}
	p, err := json.Marshal(&s)
	if err != nil {
		return s, "", err
	}
	token = base64.RawURLEncoding.EncodeToString(d.o.Ring.Seal(sessionContext, p))
	if len(token) > maxTokenBytes {
		return s, "", &policy.Error{Message: "The policy of a session is too long"}
	}
	return s, token, nil
}

// Session implements auth.Keys: it returns the temporary key that a token speaks for,
// whose caller is that of the key it was begun with, within the bounds of the session.
func (d *Directory) Session(id, token string) (auth.Key, error) {
	s, err := d.openSession(token)
	if err != nil {
		return auth.Key{}, err
	}
	if s.ID != id {
		return auth.Key{}, auth.ErrToken
	}
	if !d.o.Now().Before(s.Expires) {
		return auth.Key{}, auth.ErrExpiredToken
	}
	parent, ok := d.Key(s.Parent)
	if !ok {
		return auth.Key{}, auth.ErrExpiredToken // what it was begun with is gone
	}
	c := *parent.CallerOf()
	if c.Root { // not as free as the root key: a policy can bind the session
		c.Root, c.Grants = false, []auth.Grant{{Policy: allowAll, Reach: auth.ReachAll}}
	}
	c.Session = s.Name
	if s.Policy != "" {
		if c.Bound, err = policy.Parse([]byte(s.Policy), policy.Identity, ""); err != nil {
			return auth.Key{}, auth.ErrToken
		}
	}
	return auth.Key{ID: s.ID, Secret: s.Secret, Caller: &c}, nil
}

// openSession opens a token. Error: auth.ErrToken.
func (d *Directory) openSession(token string) (*Session, error) {
	if len(token) > maxTokenBytes {
		return nil, auth.ErrToken
	}
	sealed, err := base64.RawURLEncoding.Strict().DecodeString(token)
	if err != nil {
		return nil, auth.ErrToken
	}
	p, err := d.o.Ring.Open(sessionContext, sealed)
	if errors.Is(err, keyring.ErrNoKey) || errors.Is(err, keyring.ErrSealed) {
		return nil, auth.ErrToken
	}
	var s Session
	if err != nil || json.Unmarshal(p, &s) != nil {
		return nil, auth.ErrToken
	}
	return &s, nil
}
