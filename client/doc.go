// Package client speaks to the native API of a Stemma server: buckets and forks of them, snapshots, time travel,
// differences, merges, and commits of many changes at once. Objects themselves are read and written
// with any S3 client, from the server's S3 address.
//
// The API is on the admin listener, for the root key:
//
//	c, err := client.New(client.Options{AccessKey: "demo", SecretKey: "demo-secret"})
//	forks, err := c.Fork(ctx, "data", client.ForkRequest{Count: 100, NamePrefix: "agent-", Key: &client.ForkKey{}})
//
// # Points in time
//
// A point in time is a string: an LSN in decimal, a time in RFC 3339, how long ago it was ("-5m"), or the name of a
// snapshot of the bucket. Empty, it is the tip.
//
// # Errors
//
// What the server refuses is an *Error, with a code such as NoSuchBucket; see IsCode.
//
// docs/api.md and docs/semantics.md of the repository say what everything means.
package client
