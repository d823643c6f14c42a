// Package identity keeps users, their access keys and their policies, in the store
// itself, and makes out of them the callers that package auth speaks of.
//
// # Accounts
//
// An account is a canonical id that owns buckets and objects. The root is one. A user
// that the operator makes is one too, and is called top-level; it can be the owner of
// its account, who may do everything in it, or be held to policies. A member is a user
// in the account of another, and has nothing but its policies.
//
// # Records
//
// All lie in the configuration of the bucket Bucket, whose name no request can have:
// one byte of version, 1, and JSON. The bucket is made with the first of them.
//
//	user/NAME     a user with its inline policies and the names of managed ones
//	key/ID        an access key; the secret is sealed by the master keys, context "secret-key/ID"
//	writer/N      who commits of the writer N are of, see Directory.Writer
//	policy/NAME   a managed policy
//
// # Concurrency
//
// One change at a time runs; it is committed, and then becomes visible in memory at
// once. Lookups take a read lock for the time of a map access.
package identity
