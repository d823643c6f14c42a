package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"stemma/tools"
)

// Exit codes.
const (
	exitOK    = 0
	exitFail  = 1
	exitUsage = 2
)

func main() {
	if len(os.Args) > 1 && os.Args[1] == "serve" {
		freeLazily()
	}
	// The first signal asks for a clean end; the default action, restored by
	// then, makes the second one end the process at once.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// run executes one command line and returns the exit code. What goes wrong is
// one line on stderr.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	cmd := newRoot()
	cmd.SetArgs(args)
	cmd.SetOut(stdout)
	cmd.SetErr(stderr)
	err := cmd.ExecuteContext(ctx)
	if err == nil {
		return exitOK
	}
	fmt.Fprintf(stderr, "stemma: %s\n", oneLine(err))
	if errors.As(err, new(*usageError)) || errors.As(err, new(*tools.UsageError)) {
		return exitUsage
	}
	if code := refusal(err); code != 0 {
		return code
	}
	return exitFail
}

func oneLine(err error) string {
	return strings.Join(strings.Fields(strings.ReplaceAll(err.Error(), "\n", "; ")), " ")
}

// usageError marks what the caller got wrong before anything was done.
type usageError struct{ err error }

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

func usagef(format string, args ...any) error {
	return &usageError{fmt.Errorf(format, args...)}
}

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "stemma",
		Short: "An object store whose buckets can be forked like code",
		Long: "Stemma is an S3 object store whose buckets can be forked, and read at any earlier time,\n" +
			"in constant time and with no copy.\n\n" +
			"A point in time, where one is asked for, is an LSN, an RFC 3339 time, how long ago (-5m), or a snapshot's name.\n" +
			"Exit codes: 0 done, 1 failed, 2 wrong usage; and of what the server refuses 3 conflict, 4 a condition does not\n" +
			"hold, 5 not there (any more). stemma completion SHELL prints a script that completes commands.",
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          noArgs,
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error {
			return setFromEnv(cmd.Flags(), os.LookupEnv)
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return &usageError{err} })
	root.AddCommand(newServe(), newVersion(), newBucket(), newFork(), newLs(), newCat(), newGet(), newUsage(), newGC(), newBackground(), newReseal(),
		newProfile(), newNBD(), newMount(), newBench(), tools.Command())
	root.AddCommand(newUser(), newKey(), newPolicy())
	root.AddCommand(newSnapshot(), newLog(), newTree(), newDiff(), newMerge(), newRebase(), newCherryPick(), newRevert(), newCommit(), newDetach(), newJob(), newCp())
	root.AddCommand(newRestore(), newReset(), newPromote(), newSwap(), newUndelete())
	documentEnv(root)
	return root
}

// noArgs refuses arguments; on a command with subcommands, a name that is none of them.
func noArgs(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	if cmd.HasSubCommands() {
		return usagef("unknown command %q, see %s --help", args[0], cmd.CommandPath())
	}
	return usagef("%s takes no argument, got %q", cmd.CommandPath(), args[0])
}

// betweenArgs wants one argument per name, of which the first least are required.
func betweenArgs(least int, names ...string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		if len(args) < least || len(args) > len(names) {
			want := strings.Join(names[:least], " ")
			if optional := strings.Join(names[least:], " "); optional != "" {
				want = strings.TrimSpace(want + " [" + optional + "]")
			}
			return usagef("want %s, got %d argument(s)", want, len(args))
		}
		return nil
	}
}

// exactArgs wants one argument per name.
func exactArgs(names ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) != len(names) {
			return usagef("%s wants %s, got %d argument(s)", cmd.CommandPath(), strings.Join(names, " "), len(args))
		}
		return nil
	}
}
