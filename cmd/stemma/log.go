package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"strings"

	"github.com/spf13/cobra"

	"stemma/client"
)

func newLog() *cobra.Command {
	var f nativeFlags
	var o client.LogOptions
	var limit int
	cmd := &cobra.Command{
		Use:   "log BUCKET[/KEY]",
		Short: "Show what commits did to a bucket, or made of a key, newest first",
		Long: "Log shows for each commit what it did to which object of the bucket, through restores and into what the bucket was\n" +
			"forked from, as far back as every moment can be read. Of a key, it shows what each commit made of it. With --json\n" +
			"a log of a bucket is one JSON value per line.",
		Args: exactArgs("BUCKET[/KEY]"), ValidArgsFunction: f.completeBuckets,
		RunE: func(cmd *cobra.Command, args []string) error {
			bucket, key, err := splitPath(args[0])
			if err != nil {
				return err
			}
			c, err := f.client()
			if err != nil {
				return err
			}
			if key == "" {
				err = f.showLog(cmd, c.LogAll(cmd.Context(), bucket, o), limit)
			} else if o.Oldest || o.From != "" || o.Prefix != "" {
				err = usagef("--oldest, --from and --prefix are for a log of a bucket")
			} else {
				err = f.showHistory(cmd, c, bucket, key, o.To, limit)
			}
			if err != nil {
				return fmt.Errorf("log: %w", err)
			}
			return nil
		},
	}
	f.add(cmd)
	fl := cmd.Flags()
	fl.StringVar(&o.To, "at", "", "the newest moment to show: a point in time")
	fl.StringVar(&o.From, "from", "", "show what is newer than this point in time")
	fl.StringVar(&o.Prefix, "prefix", "", "only keys that begin with it")
	fl.BoolVar(&o.Oldest, "oldest", false, "oldest first")
	fl.IntVar(&limit, "limit", 100, "how many to show at most")
	return cmd
}

// showLog prints the first entries of a log.
func (f *nativeFlags) showLog(cmd *cobra.Command, log iter.Seq2[client.LogEntry, error], limit int) error {
	out := json.NewEncoder(cmd.OutOrStdout())
	n := 0
	for e, err := range log {
		var cut *client.LogCutError
		switch {
		case errors.As(err, &cut):
			_, err = fmt.Fprintln(cmd.ErrOrStderr(), cut)
			return err
		case err != nil:
			return err
		case n == limit:
			_, err = fmt.Fprintln(cmd.ErrOrStderr(), "... and more; see --limit")
			return err
		case f.asJSON:
			err = out.Encode(&e)
		default:
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%d  %s  %-14s %12d  %s  %s\n", e.LSN, when(e.Time), e.Kind, e.Size, principal(e.Principal), e.Key)
		}
		if err != nil {
			return err
		}
		n++
	}
	return nil
}

// principal shortens who made a commit: a user to its name.
func principal(p string) string {
	if _, name, ok := strings.Cut(p, ":user"); ok {
		return strings.TrimPrefix(name, "/")
	}
	return cmp.Or(p, "-")
}

// showHistory prints what commits made of a key.
func (f *nativeFlags) showHistory(cmd *cobra.Command, c *client.Client, bucket, key, before string, limit int) error {
	h, err := c.History(cmd.Context(), bucket, key, before, limit)
	if err != nil {
		return err
	}
	return f.show(cmd, h, func(w io.Writer) {
		fmt.Fprintln(w, "LSN\tTIME\tWHO\tSIZE\tETAG")
		for _, e := range h.Entries {
			what := fmt.Sprintf("%d\t%s", e.Size, e.ETag)
			if e.Deleted {
				what = "deleted\t"
			}
			fmt.Fprintf(w, "%d\t%s\t%s\t%s\n", e.LSN, when(e.Time), principal(e.Principal), what)
		}
		if h.Cut {
			fmt.Fprintln(w, "what was before is not kept any more")
		}
	})
}
