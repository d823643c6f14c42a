package main

import (
	"fmt"
	"net/http"
	"time"

	"github.com/spf13/cobra"
)

func newBucket() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "bucket",
		Short: "Create, list, delete and retain buckets of a running server",
		Args:  noArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newBucketCreate(), newBucketList(), newBucketDelete(), newBucketDeleted(), newBucketUndelete(), newBucketRetention(),
		newBucketShow(), newBucketSet(), newBucketRename())
	return cmd
}

func newBucketCreate() *cobra.Command {
	var f clientFlags
	var made makeFlags
	cmd := &cobra.Command{
		Use:   "create BUCKET",
		Short: "Create an empty bucket",
		Long:  "Create makes an empty bucket. With a key, labels, an expiry, a quota, scheduled snapshots or a description it is made by the native API.",
		Args:  exactArgs("BUCKET"),
		RunE: func(cmd *cobra.Command, args []string) error {
			create := func() error { return f.bucketRequest(cmd.Context(), http.MethodPut, args[0], http.Header{}) }
			if made.native(cmd) {
				create = func() error { return made.create(cmd, &f, args[0]) }
			}
			if err := create(); err != nil {
				return fmt.Errorf("create bucket %s: %w", args[0], err)
			}
			return nil
		},
	}
	f.add(cmd)
	made.add(cmd)
	return cmd
}

func newBucketList() *cobra.Command {
	var f clientFlags
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the buckets with their times of creation",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := f.s3()
			if err != nil {
				return err
			}
			buckets, err := c.Client.ListBuckets(cmd.Context())
			if err != nil {
				return fmt.Errorf("list buckets: %w", err)
			}
			for _, b := range buckets {
				fmt.Fprintf(cmd.OutOrStdout(), "%s  %s\n", b.CreationDate.UTC().Format(time.RFC3339), b.Name)
			}
			return nil
		},
	}
	f.add(cmd)
	return cmd
}

func newFork() *cobra.Command {
	var f clientFlags
	var at atFlag
	var many forkFlags
	cmd := &cobra.Command{
		Use:   "fork SOURCE [NAME...]",
		Short: "Fork a bucket: a writable copy in constant time",
		Long: "Fork makes bucket NAME, which holds what SOURCE holds, now or at an earlier time. Nothing is copied;\n" +
			"what is then written to one of them is not seen in the other. Several forks, and forks with a key, labels, an expiry or\n" +
			"a description are made by the native API, all in one commit.",
		Args: many.check,
		RunE: func(cmd *cobra.Command, args []string) error {
			if many.native(cmd, &at, args) {
				return many.run(cmd, &f, at.value, args)
			}
			lsn, err := at.lsn()
			if err != nil {
				return err
			}
			h := http.Header{headerForkSource: {args[0]}}
			setNonempty(h.Set, headerForkAt, lsn)
			if err := f.bucketRequest(cmd.Context(), http.MethodPut, args[1], h); err != nil {
				return fmt.Errorf("fork %s as %s: %w", args[0], args[1], err)
			}
			return nil
		},
	}
	f.add(cmd)
	at.add(cmd, "fork the bucket as it was")
	many.add(cmd)
	return cmd
}
