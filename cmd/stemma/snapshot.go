package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"stemma/client"
)

func labelText(labels map[string]string) string {
	var list []string
	for _, k := range slices.Sorted(maps.Keys(labels)) {
		list = append(list, k+"="+labels[k])
	}
	return strings.Join(list, " ")
}

func newSnapshot() *cobra.Command {
	cmd := &cobra.Command{
		Use: "snapshot", Short: "Take, list, change and delete snapshots", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newSnapshotCreate(), newSnapshotList(), newSnapshotSet(), newSnapshotDelete())
	return cmd
}

func printSnapshots(w io.Writer, list []client.Snapshot) {
	fmt.Fprintln(w, "BUCKET\tNAME\tVERSION\tTIME\tEXPIRES\tHELD\tLABEL")
	for i := range list {
		s := &list[i]
		fmt.Fprintf(w, "%s\t%s\t%d\t%s\t%s\t%v\t%s\n", s.Bucket, s.Name, s.LSN, when(s.Time), whenMaybe(s.ExpiresAt), s.Held, s.Label)
	}
}

func newSnapshotCreate() *cobra.Command {
	var in client.NewSnapshot
	return native("create BUCKET...", "Take a snapshot of a bucket, or of several at one moment", "", func(_ *cobra.Command, args []string) error {
		if len(args) == 0 {
			return usagef("stemma snapshot create wants BUCKET")
		}
		return nil
	}, func(cmd *cobra.Command) {
		fl := cmd.Flags()
		fl.StringVar(&in.Name, "name", "", "its name, by which it is also a point in time")
		fl.StringVar(&in.At, "at", "", "the moment to keep: a point in time (default: now)")
		fl.StringVar(&in.Label, "label", "", "free text")
		fl.StringVar(&in.ExpiresIn, "expires-in", "", "when it deletes itself, such as 24h")
		fl.BoolVar(&in.Held, "held", false, "it neither expires nor can be deleted, nor its bucket")
	}, func(cmd *cobra.Command, c *client.Client, args []string) (any, func(io.Writer), error) {
		in.Buckets = args
		list, err := c.SnapshotAll(cmd.Context(), in)
		return list, func(w io.Writer) { printSnapshots(w, list) }, err
	})
}

func newSnapshotList() *cobra.Command {
	return native("list BUCKET", "List the snapshots of a bucket, newest first", "", exactArgs("BUCKET"), nil, func(cmd *cobra.Command, c *client.Client, args []string) (any, func(io.Writer), error) {
		list := []client.Snapshot{}
		for after := ""; ; {
			page, err := c.Snapshots(cmd.Context(), args[0], after, 0)
			if err != nil {
				return nil, nil, err
			}
			list = append(list, page.Snapshots...)
			if after = page.Next; after == "" {
				return list, func(w io.Writer) { printSnapshots(w, list) }, nil
			}
		}
	})
}

func newSnapshotSet() *cobra.Command {
	var name, label, expiresIn, extend string
	var held bool
	return native("set BUCKET SNAPSHOT", "Rename, label, hold or extend a snapshot, by its name or version",
		"Set changes what its flags say and leaves the rest. --expires-in never ends an expiry, --held=false lets go.",
		exactArgs("BUCKET", "SNAPSHOT"), func(cmd *cobra.Command) {
			fl := cmd.Flags()
			fl.StringVar(&name, "name", "", "another name; empty: none")
			fl.StringVar(&label, "label", "", "free text")
			fl.StringVar(&expiresIn, "expires-in", "", "when it deletes itself, such as 24h; never")
			fl.StringVar(&extend, "extend", "", "how much later it deletes itself than it would have")
			fl.BoolVar(&held, "held", false, "whether it neither expires nor can be deleted")
		}, func(cmd *cobra.Command, c *client.Client, args []string) (any, func(io.Writer), error) {
			in := client.SnapshotChange{Extend: extend}
			for flag, p := range map[string]struct {
				field **string
				value *string
			}{"name": {&in.Name, &name}, "label": {&in.Label, &label}, "expires-in": {&in.ExpiresIn, &expiresIn}} {
				if cmd.Flags().Changed(flag) {
					*p.field = p.value
				}
			}
			if cmd.Flags().Changed("held") {
				in.Held = &held
			}
			s, err := c.ChangeSnapshot(cmd.Context(), args[0], args[1], in)
			return s, func(w io.Writer) { printSnapshots(w, []client.Snapshot{*s}) }, err
		})
}

func newSnapshotDelete() *cobra.Command {
	return native("delete BUCKET SNAPSHOT", "Delete a snapshot, by its name or version", "", exactArgs("BUCKET", "SNAPSHOT"), nil,
		func(cmd *cobra.Command, c *client.Client, args []string) (any, func(io.Writer), error) {
			return nil, nil, c.DeleteSnapshot(cmd.Context(), args[0], args[1])
		})
}
