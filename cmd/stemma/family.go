package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"stemma/client"
)

func newTree() *cobra.Command {
	var whole bool
	var limit int
	return native("tree BUCKET", "Draw what descends from a bucket, or its whole family", "", exactArgs("BUCKET"), func(cmd *cobra.Command) {
		cmd.Flags().BoolVar(&whole, "root", false, "draw the whole family, from its first ancestor on")
		cmd.Flags().IntVar(&limit, "limit", 1000, "how many buckets to draw at most")
	}, func(cmd *cobra.Command, c *client.Client, args []string) (any, func(io.Writer), error) {
		t, err := c.Tree(cmd.Context(), args[0], whole, limit)
		return t, func(w io.Writer) { drawTree(w, t) }, err
	})
}

// drawTree draws a family, each bucket with what it sees of the one that it was forked from.
func drawTree(w io.Writer, t *client.Tree) {
	for i := range t.Nodes {
		n := &t.Nodes[i]
		var line strings.Builder
		for d := 1; d <= n.Depth; d++ {
			more := false // a later one at this depth, under the same parent
			for j := i + 1; j < len(t.Nodes) && t.Nodes[j].Depth >= d; j++ {
				if t.Nodes[j].Depth == d {
					more = true
					break
				}
			}
			switch {
			case d == n.Depth && more:
				line.WriteString("├─ ")
			case d == n.Depth:
				line.WriteString("└─ ")
			case more:
				line.WriteString("│  ")
			default:
				line.WriteString("   ")
			}
		}
		name := n.Bucket
		if name == "" {
			name = fmt.Sprintf("(deleted bucket %d)", n.ID)
		}
		line.WriteString(name)
		if n.BranchLSN != 0 {
			fmt.Fprintf(&line, "  @%d", n.BranchLSN)
		}
		for text, is := range map[string]bool{"  read-only": n.ReadOnly, "  protected": n.Protected} {
			if is {
				line.WriteString(text)
			}
		}
		if n.ExpiresAt != nil {
			line.WriteString("  until " + when(*n.ExpiresAt))
		}
		fmt.Fprintln(w, line.String())
	}
	if t.Truncated {
		fmt.Fprintln(w, "... and more; see --limit")
	}
}

// printMoved says what a move did.
func printMoved(m *client.Moved) func(io.Writer) {
	return func(w io.Writer) {
		for i := range m.Buckets {
			fmt.Fprintf(w, "%s is another since %d; to undo it: stemma restore --at %d %s\n", m.Buckets[i].Name, m.LSN, m.BeforeLSN, m.Buckets[i].Name)
		}
	}
}

func newRestore() *cobra.Command {
	var r client.RestoreRequest
	return native("restore BUCKET [KEY...]", "Make a bucket, or some of its keys, what they were", "Restore is one commit, which another restore undoes.", someArgs("BUCKET"),
		func(cmd *cobra.Command) {
			fl := cmd.Flags()
			fl.StringVar(&r.At, "at", "", "the point in time to go back to")
			fl.StringSliceVar(&r.Prefixes, "prefix", nil, "only keys that begin with it; may be repeated")
			fl.BoolVar(&r.DryRun, "dry-run", false, "of keys and prefixes: only say what would be done")
		}, func(cmd *cobra.Command, c *client.Client, args []string) (any, func(io.Writer), error) {
			if r.At == "" {
				return nil, nil, usagef("--at says to which point in time")
			}
			r.Keys = args[1:]
			moved, merged, err := c.Restore(cmd.Context(), args[0], r)
			if err != nil || moved != nil {
				return moved, printMoved(moved), err
			}
			return merged, printMerged(merged), nil
		})
}

func newReset() *cobra.Command {
	var r client.MoveRequest
	return native("reset FORK", "Make a fork what its source is", "", exactArgs("FORK"), func(cmd *cobra.Command) {
		cmd.Flags().StringVar(&r.At, "at", "", "a point in time of the source (default: now)")
	}, func(cmd *cobra.Command, c *client.Client, args []string) (any, func(io.Writer), error) {
		m, err := c.Reset(cmd.Context(), args[0], r)
		return m, printMoved(m), err
	})
}

func newPromote() *cobra.Command {
	var r client.MoveRequest
	return native("promote FORK", "Make the source of a fork what the fork is", "", exactArgs("FORK"), func(cmd *cobra.Command) {
		cmd.Flags().StringVar(&r.At, "at", "", "a point in time of the fork (default: now)")
	}, func(cmd *cobra.Command, c *client.Client, args []string) (any, func(io.Writer), error) {
		m, err := c.Promote(cmd.Context(), args[0], r)
		return m, printMoved(m), err
	})
}

func newSwap() *cobra.Command {
	return native("swap BUCKET BUCKET", "Make two buckets each other", "", exactArgs("BUCKET", "BUCKET"), nil, func(cmd *cobra.Command, c *client.Client, args []string) (any, func(io.Writer), error) {
		m, err := c.Swap(cmd.Context(), args[0], args[1])
		return m, printMoved(m), err
	})
}

func newUndelete() *cobra.Command {
	var r client.UndeleteRequest
	return native("undelete BUCKET [KEY...]", "Bring deleted objects back",
		"Keys, and what was deleted of a prefix, come back each as it was before it was deleted; with --at those that were there at that point in time.\nA deleted bucket comes back by stemma bucket undelete.",
		someArgs("BUCKET"), func(cmd *cobra.Command) {
			fl := cmd.Flags()
			fl.StringVar(&r.At, "at", "", "a point in time")
			fl.StringSliceVar(&r.Prefixes, "prefix", nil, "keys that begin with it; may be repeated")
		}, func(cmd *cobra.Command, c *client.Client, args []string) (any, func(io.Writer), error) {
			r.Keys = args[1:]
			if r.At != "" {
				m, err := c.UndeleteAt(cmd.Context(), args[0], r)
				return m, printMerged(m), err
			}
			if len(r.Prefixes)+len(r.Keys) == 0 {
				return nil, nil, usagef("want keys, or --prefix")
			}
			u, err := c.UndeletePrefixes(cmd.Context(), args[0], r)
			return u, func(w io.Writer) {
				if len(u.Objects) == 0 {
					fmt.Fprintln(w, "nothing came back: none of it was deleted since the bucket can be read")
				}
				for _, o := range u.Objects {
					fmt.Fprintf(w, "%s\t%d\t%d\n", o.Key, o.Size, o.LSN)
				}
			}, err
		})
}

// someArgs wants one argument at least.
func someArgs(first string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return usagef("%s wants %s", cmd.CommandPath(), first)
		}
		return nil
	}
}
