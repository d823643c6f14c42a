package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"stemma/client"
)

func newDiff() *cobra.Command {
	var f nativeFlags
	var prefix string
	var summary, job bool
	cmd := &cobra.Command{
		Use:   "diff [BUCKET[@POINT]] BUCKET[@POINT]",
		Short: "Show what differs between two points",
		Long: "Diff compares two buckets, or two points in time of one. With one argument, a fork is compared with what it was\n" +
			"forked from. Signs: + added, - removed, * modified, = only its metadata, > renamed. With --json there is one JSON\n" +
			"value per line, and a summary at last only with --summary.",
		Args: betweenArgs(1, "BUCKET", "BUCKET"), ValidArgsFunction: f.completeBuckets,
		RunE: func(cmd *cobra.Command, args []string) error {
			if job && summary {
				return usagef("--job and --summary exclude each other: a job has both")
			}
			c, err := f.client()
			if err != nil {
				return err
			}
			r := client.DiffRequest{Prefix: prefix, Summary: summary}
			if len(args) == 2 {
				r.From, r.FromAt = atPoint(args[0])
			}
			r.To, r.ToAt = atPoint(args[len(args)-1])
			if summary {
				page, err := c.Diff(cmd.Context(), r)
				if err != nil {
					return fmt.Errorf("diff: %w", err)
				}
				s := &page.Summary
				return f.show(cmd, s, func(w io.Writer) {
					fmt.Fprintf(w, "added\t%d\nremoved\t%d\nmodified\t%d\nmetadata\t%d\nrenamed\t%d\nbytes added\t%d\nbytes removed\t%d\n",
						s.Added, s.Removed, s.Modified, s.Metadata, s.Renamed, s.BytesAdded, s.BytesRemoved)
				})
			}
			changes := c.DiffAll(cmd.Context(), r)
			if job {
				j, err := c.DiffJob(cmd.Context(), r)
				if err == nil {
					j, err = waitJob(cmd, c, j)
				}
				if err != nil {
					return fmt.Errorf("diff: %w", err)
				}
				changes = c.JobResult(cmd.Context(), j.ID)
			}
			out := json.NewEncoder(cmd.OutOrStdout())
			for d, err := range changes {
				if err != nil {
					return fmt.Errorf("diff: %w", err)
				}
				if f.asJSON {
					err = out.Encode(&d)
				} else {
					_, err = fmt.Fprintln(cmd.OutOrStdout(), diffLine(&d))
				}
				if err != nil {
					return err
				}
			}
			return nil
		},
	}
	f.add(cmd)
	cmd.Flags().StringVar(&prefix, "prefix", "", "only keys that begin with it")
	cmd.Flags().BoolVar(&summary, "summary", false, "only count")
	cmd.Flags().BoolVar(&job, "job", false, "have the server compare as a job and keep the result; when interrupted, it goes on: see stemma job")
	return cmd
}

func diffLine(d *client.DiffChange) string {
	sign := map[string]string{"added": "+", "removed": "-", "modified": "*", "metadata": "=", "renamed": ">"}[d.Kind]
	if d.OldKey != "" {
		return sign + " " + d.OldKey + " -> " + d.Key
	}
	return sign + " " + d.Key
}

// mergeFlags are those of merge and its kin.
type mergeFlags struct {
	strategy             string
	ifLSN                string
	dryRun               bool
	prefixes             []string
	winSource, winTarget []string
}

func (m *mergeFlags) add(cmd *cobra.Command) {
	fl := cmd.Flags()
	fl.StringVar(&m.strategy, "strategy", "fail", "what is done about conflicts: fail, source-wins or dest-wins")
	fl.StringSliceVar(&m.winSource, "source-wins", nil, "keys that begin with this prefix are the source's in a conflict; may be repeated")
	fl.StringSliceVar(&m.winTarget, "dest-wins", nil, "keys that begin with this prefix are the target's in a conflict; may be repeated")
	fl.StringVar(&m.ifLSN, "if-lsn", "", "refuse if an object of the target has changed above this LSN")
	fl.BoolVar(&m.dryRun, "dry-run", false, "only say what would be done")
}

func (m *mergeFlags) addPrefixes(cmd *cobra.Command) {
	m.add(cmd)
	cmd.Flags().StringSliceVar(&m.prefixes, "prefix", nil, "keys that begin with it; may be repeated")
}

func (m *mergeFlags) request() (r client.MergeRequest, err error) {
	r = client.MergeRequest{Strategy: m.strategy, DryRun: m.dryRun, Prefixes: m.prefixes}
	for _, p := range m.winSource {
		r.Overrides = append(r.Overrides, client.MergeOverride{Prefix: p, Strategy: "source-wins"})
	}
	for _, p := range m.winTarget {
		r.Overrides = append(r.Overrides, client.MergeOverride{Prefix: p, Strategy: "dest-wins"})
	}
	r.IfLSN, err = parseLSN("if-lsn", m.ifLSN)
	return r, err
}

// printMerged says what a merge did, or would do.
func printMerged(m *client.Merged) func(io.Writer) {
	return func(w io.Writer) {
		for _, e := range m.Entries {
			mark := ""
			if e.Conflict {
				mark = "\tconflict"
			}
			fmt.Fprintf(w, "%s\t%s%s\n", e.Action, e.Key, mark)
		}
		if m.Next != "" {
			fmt.Fprintln(w, "... and more")
		}
		done := fmt.Sprintf("nothing was committed, as of LSN %d", m.LSN)
		if m.Committed {
			done = fmt.Sprintf("committed at %d", m.LSN)
		}
		fmt.Fprintf(w, "%d put, %d deleted, %d the same, %d conflicts, %d kept, %d open; %s\n", m.Put, m.Deleted, m.Same, m.Conflicts, m.Kept, m.Open, done)
	}
}

// mergeError says what to do about conflicts.
func mergeError(err error) error {
	if client.IsCode(err, "MergeConflict") {
		return fmt.Errorf("%w; --dry-run shows all, and --strategy, --source-wins and --dest-wins decide them", err)
	}
	return err
}

func newMerge() *cobra.Command {
	var m mergeFlags
	return native("merge SOURCE[@POINT] TARGET", "Merge what a fork has changed into a bucket that it descends from", "", exactArgs("SOURCE", "TARGET"), m.add,
		func(cmd *cobra.Command, c *client.Client, args []string) (any, func(io.Writer), error) {
			r, err := m.request()
			if err != nil {
				return nil, nil, err
			}
			r.Source, r.At = atPoint(args[0])
			out, err := c.Merge(cmd.Context(), args[1], r)
			return out, printMerged(out), mergeError(err)
		})
}

func newRebase() *cobra.Command {
	var m mergeFlags
	return native("rebase FORK [SOURCE[@POINT]]", "Bring what the source of a fork has changed since into the fork", "", betweenArgs(1, "FORK", "SOURCE"), m.add,
		func(cmd *cobra.Command, c *client.Client, args []string) (any, func(io.Writer), error) {
			r, err := m.request()
			if err != nil {
				return nil, nil, err
			}
			if len(args) == 2 {
				r.Source, r.At = atPoint(args[1])
			} else {
				b, err := c.Bucket(cmd.Context(), args[0])
				if err != nil {
					return nil, nil, err
				}
				if b.Source == nil || b.Source.Bucket == "" {
					return nil, nil, usagef("%s is no fork of a bucket that there is: name the source", args[0])
				}
				r.Source = b.Source.Bucket
			}
			out, err := c.Rebase(cmd.Context(), args[0], r)
			return out, printMerged(out), mergeError(err)
		})
}

func newCherryPick() *cobra.Command {
	var m mergeFlags
	return native("cherry-pick SOURCE[@POINT] TARGET [KEY...]", "Bring some keys of one bucket into another", "", someArgs("SOURCE TARGET"), m.addPrefixes,
		func(cmd *cobra.Command, c *client.Client, args []string) (any, func(io.Writer), error) {
			r, err := m.request()
			if err != nil {
				return nil, nil, err
			}
			if len(args) < 2 || len(args) == 2 && len(r.Prefixes) == 0 {
				return nil, nil, usagef("want SOURCE TARGET, and keys or --prefix")
			}
			r.Source, r.At = atPoint(args[0])
			r.Keys = args[2:]
			out, err := c.CherryPick(cmd.Context(), args[1], r)
			return out, printMerged(out), err
		})
}

func newRevert() *cobra.Command {
	var m mergeFlags
	var from, to string
	return native("revert BUCKET [KEY...]", "Undo what was committed between two points in time, by a new commit", "", someArgs("BUCKET"), func(cmd *cobra.Command) {
		m.addPrefixes(cmd)
		cmd.Flags().StringVar(&from, "from", "", "the point in time above which commits are undone")
		cmd.Flags().StringVar(&to, "to", "", "the point in time up to which they are (default: now)")
	}, func(cmd *cobra.Command, c *client.Client, args []string) (any, func(io.Writer), error) {
		r, err := m.request()
		if err != nil {
			return nil, nil, err
		}
		if from == "" {
			return nil, nil, usagef("--from says above which point in time to undo")
		}
		r.From, r.To, r.Keys = from, to, args[1:]
		out, err := c.Revert(cmd.Context(), args[0], r)
		return out, printMerged(out), err
	})
}

// maxCommitFile bounds what a commit reads, in bytes.
const maxCommitFile = 32 << 20

func newCommit() *cobra.Command {
	var puts, deletes, renames, copies, renamePrefixes, deletePrefixes []string
	var file, ifLSN string
	return native("commit BUCKET", "Make many changes at once, or none of them",
		"Commit does what its flags say, or what the request in --file says (docs/api.md), in one commit: everything becomes visible\n"+
			"at one moment. All of it sees the bucket as it was before, so --rename a=b --rename b=a exchanges two keys.",
		exactArgs("BUCKET"), func(cmd *cobra.Command) {
			fl := cmd.Flags()
			fl.StringArrayVar(&puts, "put", nil, "KEY=FILE: store a small file; may be repeated, as all of these")
			fl.StringArrayVar(&deletes, "delete", nil, "KEY: delete it")
			fl.StringArrayVar(&renames, "rename", nil, "FROM=TO: give a key another name")
			fl.StringArrayVar(&copies, "copy", nil, "FROM=TO: copy a key")
			fl.StringArrayVar(&renamePrefixes, "rename-prefix", nil, "FROM=TO: give all keys that begin with FROM the beginning TO")
			fl.StringArrayVar(&deletePrefixes, "delete-prefix", nil, "PREFIX: delete all keys that begin with it")
			fl.StringVar(&file, "file", "", "a request in JSON instead; - is standard input")
			fl.StringVar(&ifLSN, "if-lsn", "", "refuse if an object has changed above this LSN")
		}, func(cmd *cobra.Command, c *client.Client, args []string) (any, func(io.Writer), error) {
			var r client.CommitRequest
			var err error
			if file != "" {
				if err = readRequest(cmd, file, &r); err != nil {
					return nil, nil, err
				}
			}
			if lsn, err := parseLSN("if-lsn", ifLSN); err != nil {
				return nil, nil, err
			} else if lsn != 0 {
				r.IfLSN = lsn
			}
			for _, kind := range []struct {
				op    string
				items []string
			}{{"put", puts}, {"delete", deletes}, {"rename", renames}, {"copy", copies}, {"rename-prefix", renamePrefixes}, {"delete-prefix", deletePrefixes}} {
				for _, item := range kind.items {
					op, err := operation(kind.op, item)
					if err != nil {
						return nil, nil, err
					}
					r.Operations = append(r.Operations, op)
				}
			}
			if len(r.Operations) == 0 {
				return nil, nil, usagef("nothing to commit: see --help")
			}
			out, err := c.Commit(cmd.Context(), args[0], r)
			return out, func(w io.Writer) { fmt.Fprintf(w, "committed %d operations at %d\n", len(out.Results), out.LSN) }, err
		})
}

// operation parses the value of a flag of commit.
func operation(op, item string) (client.CommitOperation, error) {
	if strings.HasPrefix(op, "delete") {
		return client.CommitOperation{Op: op, Key: item}, nil
	}
	from, to, ok := strings.Cut(item, "=")
	if !ok {
		return client.CommitOperation{}, usagef("--%s %q: want two names with = in between", op, item)
	}
	if op != "put" {
		return client.CommitOperation{Op: op, Source: from, Key: to}, nil
	}
	data, err := readSmall(to)
	return client.CommitOperation{Op: op, Key: from, Data: data}, err
}

func readSmall(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return readLimited(f, path)
}

func readLimited(r io.Reader, what string) ([]byte, error) {
	p, err := io.ReadAll(io.LimitReader(r, maxCommitFile+1))
	if err == nil && len(p) > maxCommitFile {
		err = usagef("%s is too large for a commit; upload it and name it as staged", what)
	}
	return p, err
}

// readRequest reads a request in JSON.
func readRequest(cmd *cobra.Command, file string, v any) error {
	p, err := []byte(nil), error(nil)
	if file == "-" {
		p, err = readLimited(cmd.InOrStdin(), "standard input")
	} else {
		p, err = readSmall(file)
	}
	if err != nil {
		return err
	}
	d := json.NewDecoder(strings.NewReader(string(p)))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return usagef("--file %s: %w", file, err)
	}
	return nil
}
