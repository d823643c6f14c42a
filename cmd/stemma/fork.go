package main

import (
	"fmt"
	"io"
	"slices"
	"strconv"

	"github.com/spf13/cobra"

	"stemma/client"
)

// bucketFlags are what a bucket can be given when it is made.
type bucketFlags struct {
	labels              map[string]string
	description         string
	expiresIn           string
	readOnly, protected bool
	quotaBytes          byteSize
	quotaObjects        int64
	snapshots           ruleFlags
}

func (b *bucketFlags) add(cmd *cobra.Command) {
	fl := cmd.Flags()
	fl.StringToStringVar(&b.labels, "label", nil, "labels, key=value; may be repeated")
	fl.StringVar(&b.description, "description", "", "free text")
	fl.StringVar(&b.expiresIn, "expires-in", "", "when it deletes itself, such as 24h")
	fl.BoolVar(&b.readOnly, "read-only", false, "nothing can be written to it")
	fl.BoolVar(&b.protected, "protected", false, "it cannot be deleted")
	fl.Var(&b.quotaBytes, "quota-bytes", "how much it may hold at most, such as 10GiB; of a fork what it has written; 0: no bound")
	fl.Int64Var(&b.quotaObjects, "quota-objects", 0, "how many versions of objects it may hold at most; 0: no bound")
	fl.Var(&b.snapshots, "snapshots", "take snapshots by a rule, such as hourly:every=1h,keep-for=48h or daily:every=24h,keep-last=7; may be repeated; none: no rules")
}

func (b *bucketFlags) options() client.BucketOptions {
	return client.BucketOptions{
		Labels: b.labels, Description: b.description, ExpiresIn: b.expiresIn, ReadOnly: b.readOnly, Protected: b.protected,
		QuotaBytes: int64(b.quotaBytes), QuotaObjects: b.quotaObjects, Snapshots: b.snapshots,
	}
}

// makeFlags are what makes a bucket by the native API.
type makeFlags struct {
	bucketFlags
	endpoint string
	key      string
	asJSON   bool
}

func (m *makeFlags) add(cmd *cobra.Command) {
	m.bucketFlags.add(cmd)
	fl := cmd.Flags()
	fl.StringVar(&m.key, "key", "", "make an access key for each bucket and for it alone: editor or readonly")
	fl.StringVar(&m.endpoint, "admin-endpoint", "http://"+defaultAdminListen, "address of the server's admin listener")
	fl.BoolVar(&m.asJSON, "json", false, "print the answer of the server, keys included")
}

// nativeMakeFlags are the names of the flags that ask for what S3 has no word for.
var nativeMakeFlags = []string{"label", "description", "expires-in", "read-only", "protected", "quota-bytes", "quota-objects", "snapshots", "key", "json", "count", "name-prefix"}

// native reports whether the native API is needed.
func (m *makeFlags) native(cmd *cobra.Command) bool {
	return slices.ContainsFunc(nativeMakeFlags, cmd.Flags().Changed)
}

func (m *makeFlags) forkKey() *client.ForkKey {
	if m.key == "" {
		return nil
	}
	return &client.ForkKey{Role: m.key}
}

// create makes one bucket that is no fork.
func (m *makeFlags) create(cmd *cobra.Command, f *clientFlags, name string) error {
	c, err := f.who.nativeClient(m.endpoint)
	if err != nil {
		return err
	}
	made, err := c.CreateBucket(cmd.Context(), client.NewBucket{Name: name, BucketOptions: m.options(), Key: m.forkKey()})
	if err != nil {
		return err
	}
	n := nativeFlags{asJSON: m.asJSON}
	return n.show(cmd, made, func(w io.Writer) { printMade(w, made) })
}

// printMade says what a bucket that was made is called, and its key.
func printMade(w io.Writer, b *client.MadeBucket) {
	if b.Key != nil {
		fmt.Fprintf(w, "%s\t%s\t%s\n", b.Name, b.Key.ID, b.Key.SecretKey)
	} else {
		fmt.Fprintln(w, b.Name)
	}
}

// forkFlags are those of fork that need the native API.
type forkFlags struct {
	makeFlags
	count  int
	prefix string
}

func (m *forkFlags) add(cmd *cobra.Command) {
	m.makeFlags.add(cmd)
	fl := cmd.Flags()
	fl.IntVar(&m.count, "count", 0, "how many to make, named --name-prefix and a number")
	fl.StringVar(&m.prefix, "name-prefix", "", "what the names of --count begin with")
}

func (m *forkFlags) check(_ *cobra.Command, args []string) error {
	switch {
	case len(args) == 0, len(args) == 1 && m.count == 0:
		return usagef("stemma fork wants SOURCE NAME, got %d argument(s); or SOURCE, --count and --name-prefix", len(args))
	case m.count != 0 && (len(args) > 1 || m.prefix == "" || m.count < 0):
		return usagef("--count goes with --name-prefix and without names")
	}
	return nil
}

func (m *forkFlags) native(cmd *cobra.Command, at *atFlag, args []string) bool {
	return m.makeFlags.native(cmd) || len(args) > 2 || at.snapshot() != ""
}

func (m *forkFlags) run(cmd *cobra.Command, f *clientFlags, at string, args []string) error {
	c, err := f.who.nativeClient(m.endpoint)
	if err != nil {
		return err
	}
	r := client.ForkRequest{Names: args[1:], Count: m.count, NamePrefix: m.prefix, At: at, BucketOptions: m.options(), Key: m.forkKey()}
	out, err := c.Fork(cmd.Context(), args[0], r)
	if err != nil {
		return fmt.Errorf("fork %s: %w", args[0], err)
	}
	n := nativeFlags{asJSON: m.asJSON}
	return n.show(cmd, out, func(w io.Writer) {
		for i := range out.Forks {
			printMade(w, &out.Forks[i])
		}
	})
}

func newBucketShow() *cobra.Command {
	return native("show BUCKET", "Describe a bucket", "", exactArgs("BUCKET"), nil, func(cmd *cobra.Command, c *client.Client, args []string) (any, func(io.Writer), error) {
		b, err := c.Bucket(cmd.Context(), args[0])
		return b, func(w io.Writer) { printBucket(w, b) }, err
	})
}

func printBucket(w io.Writer, b *client.Bucket) {
	fmt.Fprintf(w, "name\t%s\nid\t%d\ncreated\t%s\nretention\t%s\n", b.Name, b.ID, when(b.Created), b.Retention)
	if s := b.Source; s != nil {
		fmt.Fprintf(w, "fork of\t%s@%d\n", s.Bucket, s.LSN)
	}
	if b.Description != "" {
		fmt.Fprintf(w, "description\t%s\n", b.Description)
	}
	if len(b.Labels) > 0 {
		fmt.Fprintf(w, "labels\t%s\n", labelText(b.Labels))
	}
	if b.ExpiresAt != nil {
		fmt.Fprintf(w, "expires\t%s\n", when(*b.ExpiresAt))
	}
	if q := b.Quota; q != nil {
		used := client.QuotaUsage{}
		if q.Used != nil {
			used = *q.Used
		}
		if q.MaxBytes != 0 {
			fmt.Fprintf(w, "quota\t%s\n", quotaText(q.Used != nil, size(used.Bytes), size(q.MaxBytes)))
		}
		if q.MaxObjects != 0 {
			fmt.Fprintf(w, "quota of objects\t%s\n", quotaText(q.Used != nil, strconv.FormatInt(used.Objects, 10), strconv.FormatInt(q.MaxObjects, 10)))
		}
	}
	for _, r := range b.Snapshots {
		fmt.Fprintf(w, "snapshots\t%s\n", ruleText(r))
	}
	fmt.Fprintf(w, "read-only\t%v\nprotected\t%v\nhas forks\t%v\n", b.ReadOnly, b.Protected, b.HasForks)
}

func quotaText(counted bool, used, most string) string {
	if !counted {
		return most
	}
	return used + " of " + most
}

func newBucketSet() *cobra.Command {
	var b bucketFlags
	var extend string
	return native("set BUCKET", "Change labels, description, expiry, read-only, protection, quota or scheduled snapshots of a bucket",
		"Set changes what its flags say and leaves the rest. Labels and rules for snapshots are replaced as a whole; --expires-in never ends an expiry.",
		exactArgs("BUCKET"), func(cmd *cobra.Command) {
			b.add(cmd)
			cmd.Flags().StringVar(&extend, "extend", "", "how much later it deletes itself than it would have")
		}, func(cmd *cobra.Command, c *client.Client, args []string) (any, func(io.Writer), error) {
			in := client.BucketChange{Extend: extend}
			given := cmd.Flags().Changed
			if given("label") {
				in.Labels = &b.labels
			}
			if given("description") {
				in.Description = &b.description
			}
			if given("expires-in") {
				in.ExpiresIn = &b.expiresIn
			}
			if given("read-only") {
				in.ReadOnly = &b.readOnly
			}
			if given("protected") {
				in.Protected = &b.protected
			}
			if given("quota-bytes") {
				in.QuotaBytes = (*int64)(&b.quotaBytes)
			}
			if given("quota-objects") {
				in.QuotaObjects = &b.quotaObjects
			}
			if given("snapshots") {
				in.Snapshots = (*[]client.SnapshotRule)(&b.snapshots)
			}
			out, err := c.ChangeBucket(cmd.Context(), args[0], in)
			return out, func(w io.Writer) { printBucket(w, out) }, err
		})
}

func newBucketRename() *cobra.Command {
	return native("rename BUCKET NAME", "Give a bucket another name, with its history and forks", "", exactArgs("BUCKET", "NAME"), nil,
		func(cmd *cobra.Command, c *client.Client, args []string) (any, func(io.Writer), error) {
			_, err := c.RenameBucket(cmd.Context(), args[0], args[1])
			return nil, nil, err
		})
}
