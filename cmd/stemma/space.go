package main

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"stemma/pageserver"
)

func newUsage() *cobra.Command {
	var f adminFlags
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "usage [BUCKET]",
		Short: "Show what the store holds, and for which bucket",
		Long: "Usage reads the entries of the whole store, no bodies. Of each bucket it shows\n\n" +
			"  LOGICAL    what a listing adds up to\n" +
			"  EXCLUSIVE  what deleting it would give back\n" +
			"  SHARED     what it stores that others need, too\n" +
			"  HISTORY    what only its past needs\n\n" +
			"EXCLUSIVE and SHARED of all buckets add up to what is live on the disk.",
		Args: betweenArgs(0, "BUCKET"),
		RunE: func(cmd *cobra.Command, args []string) error {
			query := url.Values{}
			if len(args) == 1 {
				query.Set("bucket", args[0])
			}
			var u pageserver.UsageAnswer
			if err := f.call(cmd.Context(), http.MethodGet, "v1/usage", query, nil, &u); err != nil {
				return fmt.Errorf("usage: %w", err)
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), &u)
			}
			return printUsage(cmd.OutOrStdout(), &u, len(args) == 0)
		},
	}
	f.add(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the answer of the server")
	return cmd
}

func printJSON(out io.Writer, v any) error {
	e := json.NewEncoder(out)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

func size(n int64) string {
	if n < 0 {
		return "-" + humanize.IBytes(uint64(-n))
	}
	return humanize.IBytes(uint64(n))
}

func printUsage(out io.Writer, u *pageserver.UsageAnswer, totals bool) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "BUCKET\tSTATE\tLOGICAL\tEXCLUSIVE\tSHARED\tHISTORY\tFORK OF")
	for i := range u.Timelines {
		t := &u.Timelines[i]
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", t.Bucket, t.State, size(t.Logical), size(t.Exclusive), size(t.Shared), size(t.History), t.Source)
	}
	if err := w.Flush(); err != nil || !totals {
		return err
	}
	_, err := fmt.Fprintf(out, "\nlive %s, garbage %s; on disk: layers %s, values %s, log %s\n",
		size(u.Live), size(u.Garbage), size(u.LayerBytes), size(u.ValueBytes), size(u.LogBytes))
	return err
}

func newGC() *cobra.Command {
	var f adminFlags
	var full, dryRun, explain, asJSON bool
	cmd := &cobra.Command{
		Use:   "gc",
		Short: "Give back everything that nobody can read, or say what that would be",
		Long: "The server collects garbage by itself, as far as it is worth it. With --full gc has it collect all of it now and\n" +
			"says what that gave back; it costs the entries of the whole store and may take long. Without --full, or with\n" +
			"--dry-run, nothing is changed and gc says what there is to give back; --explain adds what each layer and each\n" +
			"value segment keeps, and why.",
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if full && !dryRun && explain {
				return usagef("--explain changes nothing: leave out --full, or add --dry-run")
			}
			query, out := url.Values{"mode": {"plan"}}, cmd.OutOrStdout()
			if full && !dryRun {
				query.Set("mode", "full")
				var r pageserver.CollectAnswer
				if err := f.call(cmd.Context(), http.MethodPost, "v1/gc", query, nil, &r); err != nil {
					return fmt.Errorf("collect: %w", err)
				}
				if asJSON {
					return printJSON(out, &r)
				}
				return printCollected(out, &r)
			}
			var p pageserver.PlanAnswer
			if err := f.call(cmd.Context(), http.MethodPost, "v1/gc", query, nil, &p); err != nil {
				return fmt.Errorf("plan a collection: %w", err)
			}
			if asJSON {
				return printJSON(out, &p)
			}
			return printPlan(out, &p, explain)
		},
	}
	f.add(cmd)
	cmd.Flags().BoolVar(&full, "full", false, "collect all garbage now")
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "change nothing; so it is without --full")
	cmd.Flags().BoolVar(&explain, "explain", false, "say of each layer and value segment what it keeps, and why")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the answer of the server")
	return cmd
}

func printCollected(out io.Writer, r *pageserver.CollectAnswer) error {
	for _, t := range r.Timelines {
		fmt.Fprintf(out, "dropped %s (timeline %d): %s\n", t.Bucket, t.Timeline, size(t.Exclusive))
	}
	_, err := fmt.Fprintf(out, "freed %s of layers and %s of values; %d rewrites of layers, %d timelines purged\n",
		size(max(r.LayerBytesFreed, 0)), size(r.ValueBytesFreed), r.LayersRewritten, r.TimelinesPurged)
	if err == nil && r.LayerBytesFreed < 0 {
		_, err = fmt.Fprintf(out, "layers grew by %s: what was written before was merged in\n", size(-r.LayerBytesFreed))
	}
	return err
}

func printPlan(out io.Writer, p *pageserver.PlanAnswer, explain bool) error {
	if explain {
		w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
		fmt.Fprintln(w, "LAYER\tKIND\tLEVEL\tSIZE\tDEAD\tDEAD VALUES\tKEPT")
		for i := range p.Layers {
			l := &p.Layers[i]
			fmt.Fprintf(w, "%d\t%s\t%d\t%s\t%s\t%s\t%s\n", l.Num, l.Kind, l.Level, size(l.Bytes), size(l.Dead), size(l.DeadValues), reasons(l.Kept))
		}
		if m := &p.Memlayers; m.Records > 0 {
			fmt.Fprintf(w, "-\tmemory\t-\t%s\t%s\t%s\t%s\n", size(m.Bytes), size(m.Dead), size(m.DeadValues), reasons(m.Kept))
		}
		fmt.Fprintln(w, "\nVALUES\tSIZE\tLIVE\tDEAD")
		for _, s := range p.Segments {
			fmt.Fprintf(w, "%d\t%s\t%s\t%s\n", s.Num, size(s.Bytes), size(s.Live), size(s.Dead))
		}
		fmt.Fprintln(w)
		if err := w.Flush(); err != nil {
			return err
		}
	}
	t := &p.Total
	fmt.Fprintf(out, "layers: %s, of which %s dead in %d of %d; kept: %s\n", size(t.LayerBytes), size(t.LayerDead), t.DirtyLayers, t.Layers, reasons(t.Kept))
	fmt.Fprintf(out, "values: %s, of which %s dead in %d of %d segments\n", size(t.ValueBytes), size(t.ValueDead), t.DirtySegments, t.Segments)
	_, err := fmt.Fprintf(out, "timelines that nobody reads: %d; deleted, and kept for undelete: %d\n", t.DeadTimelines, t.Undeletable)
	return err
}

// reasons lists what is kept by why, the most first.
func reasons(kept map[string]int64) string {
	if len(kept) == 0 {
		return "nothing"
	}
	names := slices.SortedFunc(maps.Keys(kept), func(a, b string) int {
		if kept[a] != kept[b] {
			return int(min(max(kept[b]-kept[a], -1), 1))
		}
		return strings.Compare(a, b)
	})
	for i, name := range names {
		names[i] = name + " " + size(kept[name])
	}
	return strings.Join(names, ", ")
}
