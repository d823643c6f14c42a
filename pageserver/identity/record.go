package identity

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"stemma/pageserver/auth"
)

// ErrCorrupt marks records that this package did not write.
var ErrCorrupt = errors.New("identity: corrupt")

// User is a user. Whoever gets one has a copy of its own but for the policies, which
// must not be changed.
type User struct {
	Name string `json:"name"`
	// Unique is an id that is never used again, AIDA and 16 letters and digits.
	Unique string `json:"unique"`
	// ID is the canonical id of the account that the user belongs to.
	ID          string    `json:"id"`
	DisplayName string    `json:"display_name,omitempty"`
	Email       string    `json:"email,omitempty"`
	Path        string    `json:"path"` // of the ARN, "/" by default
	Created     time.Time `json:"created"`
	// Member says that the account belongs to somebody else.
	Member bool `json:"member,omitempty"`
	// Owner says that the user may do everything in its account.
	Owner bool `json:"owner,omitempty"`
	// Inline are the policies that only the user has; Attached are names of managed ones.
	Inline   []Inline `json:"inline,omitempty"`
	Attached []string `json:"attached,omitempty"`
}

// Inline is a policy of one user.
type Inline struct {
	Name     string     `json:"name"`
	Document string     `json:"document"`
	Reach    auth.Reach `json:"reach"`
}

// ARN names the user.
func (u *User) ARN() string {
	return "arn:aws:iam::" + auth.AccountNumber(u.ID) + ":user" + u.Path + u.Name
}

// Key is an access key without its secret.
type Key struct {
	ID string `json:"id"`
	// User is the name of the user that it belongs to. Empty: the root.
	User    string    `json:"user,omitempty"`
	Created time.Time `json:"created"`
	// Expires is when the key ends to work; zero: never.
	Expires  time.Time `json:"expires,omitzero"`
	Inactive bool      `json:"inactive,omitempty"`
	// Description is what it is for.
	Description string `json:"description,omitempty"`
	// Scope holds the key to buckets, see auth.Caller.
	Scope []auth.BucketRole `json:"scope,omitempty"`
}

// keyRecord is the record of a key.
type keyRecord struct {
	Key
	Sealed []byte `json:"sealed"`
}

// Policy is a managed policy: one that users share by its name.
type Policy struct {
	Name     string    `json:"name"`
	Document string    `json:"document"`
	Created  time.Time `json:"created"`
	Updated  time.Time `json:"updated"`
	// Description is for people.
	Description string `json:"description,omitempty"`
	// Canned says that it comes with the server and cannot be changed.
	Canned bool `json:"-"`
}

// ARN names the policy.
func (p *Policy) ARN() string {
	if p.Canned {
		return "arn:aws:iam::aws:policy/" + p.Name
	}
	return "arn:aws:iam::" + auth.AccountNumber(auth.RootID) + ":policy/" + p.Name
}

// recordVersion is the first byte of every record; the rest is JSON.
const recordVersion = 1

func encode(v any) []byte {
	p, err := json.Marshal(v)
	if err != nil {
		panic("BUG: " + err.Error()) // plain structs
	}
	return append([]byte{recordVersion}, p...)
}

// decode decodes a record. Errors: ErrCorrupt.
func decode(p []byte, v any) error {
	if len(p) == 0 || p[0] != recordVersion {
		return fmt.Errorf("record of %d bytes: %w", len(p), ErrCorrupt)
	}
	d := json.NewDecoder(bytes.NewReader(p[1:]))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return fmt.Errorf("%w: %w", err, ErrCorrupt)
	}
	if d.More() {
		return fmt.Errorf("bytes behind a record: %w", ErrCorrupt)
	}
	return nil
}
