package tools

import (
	"bufio"
	"errors"
	"fmt"
	"io"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/spf13/cobra"

	"stemma/timeline"
)

// Command returns `stemma tool` with its subcommands.
func Command() *cobra.Command {
	tool := group("tool", "Look into the files of a stopped store",
		group("wal", "The log",
			leaf("dump DIR", "List segments, groups and the commits that a start would replay", onStore(dumpWAL)),
			leaf("verify DIR", "Check the chain of groups and decode every commit", onStore(verifyWAL)),
		),
		group("layer", "One layer file",
			leaf("dump FILE", "List the records of a layer file", dumpLayer),
			leaf("verify FILE", "Check every block, the order, index, filter and counts of a layer file", verifyLayer),
		),
		group("values", "The value segments",
			leaf("verify DIR", "Read every value that layers and log refer to", onStore(verifyValues)),
		),
		group("catalog", "The catalog",
			leaf("dump DIR", "List every row", onStore(dumpCatalog)),
		),
		leaf("tree DIR", "Draw the timelines by ancestry", onStore(drawTree)),
		leaf("check DIR", "Check everything and report all that is wrong", onStore(check)),
	)
	return tool
}

func group(name, short string, subs ...*cobra.Command) *cobra.Command {
	c := &cobra.Command{
		Use:   name,
		Short: short,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return &UsageError{fmt.Sprintf("unknown command %q, see %s --help", args[0], cmd.CommandPath())}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	c.AddCommand(subs...)
	return c
}

// action does one command on a path of a file system and writes its findings.
type action func(fs vfs.FS, path string, out io.Writer) error

func leaf(use, short string, do action) *cobra.Command {
	return &cobra.Command{
		Use:   use,
		Short: short,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 {
				return &UsageError{fmt.Sprintf("%s wants one path, got %d arguments", cmd.CommandPath(), len(args))}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			out := bufio.NewWriter(cmd.OutOrStdout())
			return errors.Join(do(readOnlyFS{vfs.Default}, args[0], out), out.Flush())
		},
	}
}

// UsageError says that a command line is wrong.
type UsageError struct{ Reason string }

func (e *UsageError) Error() string { return e.Reason }

// onStore opens the store at the path for the action.
func onStore(do func(s *timeline.Offline, fs vfs.FS, out io.Writer) error) action {
	return func(fs vfs.FS, dir string, out io.Writer) error {
		s, err := timeline.OpenOffline(fs, dir)
		if err != nil {
			return err
		}
		return errors.Join(do(s, fs, out), s.Close())
	}
}
