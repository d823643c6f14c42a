package auth

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"

	"stemma/pageserver/policy"
)

// Caller is who makes a request: a user, a session of one, or nobody. It does not
// change; when the user does, its keys get another one.
type Caller struct {
	// Root says that the caller may do everything: policies and ACLs do not bind the root key.
	Root bool
	// ID is the canonical id of the account that the caller belongs to: it owns what
	// the caller makes, and ACLs name it. Empty: nobody, an anonymous caller.
	ID string
	// DisplayName is that of the account.
	DisplayName string
	// Name is the user's name, ARN says which user of which account, and Unique is an
	// id that is never used again.
	Name, ARN, Unique string
	// Owner says that the user owns the account and may do everything in it.
	Owner bool
	// Grants are the policies of the user, which are taken together.
	Grants []Grant
	// Bound, if not nil, must allow what is done, besides: that of a session.
	Bound *policy.Policy
	// Scope holds the key to buckets; nil does not.
	Scope []BucketRole
	// Session is the name of the session of a temporary key.
	Session string
	// Principal is the caller as policies of buckets name it.
	Principal policy.Principal
}

// Anonymous reports whether the caller is nobody.
func (c *Caller) Anonymous() bool { return c.ID == "" && !c.Root }

// Grant is a policy of a user.
type Grant struct {
	Policy *policy.Policy
	Reach  Reach
}

// Reach is whose buckets a policy of a user speaks of.
type Reach byte

// The reaches. The root's buckets are those of the root user, who runs the store.
const (
	ReachAccount Reach = iota // those of the user's account
	ReachRoot                 // and those of the root
	ReachAll                  // all
)

// BucketRole is what a scoped key may do in one bucket.
type BucketRole struct {
	// Bucket is the id of a bucket, which names keep; zero is any bucket.
	Bucket uint64 `json:"bucket"`
	// ReadOnly keeps the key from changing anything.
	ReadOnly bool `json:"read_only,omitempty"`
}

// The canonical id and the name of the root.
const (
	RootID   = "73746d61000000000000000000000000000000000000000000000000000000aa"
	RootName = "stemma"
)

// rootCaller is the caller of root keys.
var rootCaller = func() *Caller {
	account := AccountNumber(RootID)
	c := &Caller{
		Root: true, ID: RootID, DisplayName: RootName, Name: RootName, Unique: RootID, Owner: true,
		ARN: "arn:aws:iam::" + account + ":root",
	}
	c.Principal = policy.Principal{Names: []string{c.ARN, account, RootID}, Canonical: RootID}
	return c
}()

// RootCaller returns the caller of root keys.
func RootCaller() *Caller { return rootCaller }

// nobody is the anonymous caller.
var nobody = &Caller{}

// AccountNumber returns the number, 12 digits, of the account that a canonical id is
// the owner of. That of the root is zero.
func AccountNumber(canonical string) string {
	if canonical == RootID {
		return "000000000000"
	}
	sum := sha256.Sum256([]byte("account\x00" + canonical))
	return fmt.Sprintf("%012d", 1+binary.BigEndian.Uint64(sum[:])%999_999_999_999)
}
