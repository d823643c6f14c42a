package main

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"stemma/benchmarks/report"
	"stemma/benchmarks/storeload"
)

// storeBench is a workload of package storeload as a command.
type storeBench struct {
	name, short, long string
	full, quick       storeload.Workload
	flags             func(fl *pflag.FlagSet) // of full; may be nil
}

// newStoreBenches are the commands that measure what a store does beside answering
// single requests.
func newStoreBenches() []*cobra.Command {
	forks, swarm, chain, list := storeload.FullForks, storeload.FullSwarm, storeload.FullChain, storeload.FullList
	recovery, past, reclaim, soak := storeload.FullRecovery, storeload.FullPast, storeload.FullReclaim, storeload.FullSoak
	pages, diff, merge, log := storeload.FullPages, storeload.FullDiff, storeload.FullMerge, storeload.FullLog
	var all []*cobra.Command
	for _, b := range []storeBench{
		{
			"log", "Measure durable commits of many writers at once",
			"Log makes durable commits of 4 KiB, on the log alone and on the engine, in turns with what the disk does with groups of the\n" +
				"size that the log gathered: one O_DIRECT write and fdatasync after the other. The rate is to be at least 0.90 of the disk's\n" +
				"writes times the commits of a group, with 64 writers; the latency of one writer at most 1.25 times that of the disk.\n" +
				"Takes 4 minutes, and 3 GiB of disk.",
			&log, &storeload.QuickLog,
			func(fl *pflag.FlagSet) {
				fl.Var((*counts)(&log.Writers), "writers", "numbers of writers")
				fl.DurationVar(&log.Duration, "duration", log.Duration, "length of a round")
			},
		},
		{
			"forks", "Measure forks of one bucket",
			"Forks measures what a fork costs by the number of objects in the store and by the number of forks, beside the disk's\n" +
				"own synced write, what an idle one keeps in memory, and how long a server with all of them takes to start; and forks through\n" +
				"the API of a bucket under load. Takes 8 minutes, and 4 GiB of disk.",
			&forks, &storeload.QuickForks,
			func(fl *pflag.FlagSet) {
				fl.IntVar(&forks.Forks, "forks", forks.Forks, "forks in the end")
				fl.Var((*counts)(&forks.Objects), "objects", "numbers of objects in the store")
			},
		},
		{
			"swarm", "Measure agents that each work in a fork of their own",
			"Swarm runs agents against a server: each forks a bucket, reads, writes, lists, and drops the fork; or compares and merges it\n" +
				"before. Takes 3 minutes, and 3 GiB of disk.",
			&swarm, &storeload.QuickSwarm,
			func(fl *pflag.FlagSet) {
				fl.Var((*counts)(&swarm.Agents), "agents", "numbers of agents that work at once")
				fl.IntVar(&swarm.Reads, "reads", swarm.Reads, "gets of an agent")
				fl.IntVar(&swarm.Writes, "writes", swarm.Writes, "puts of an agent")
				fl.StringSliceVar(&swarm.Ends, "end", swarm.Ends, "how agents end: "+storeload.EndDrop+", "+storeload.EndMerge)
				fl.DurationVar(&swarm.Duration, "duration", swarm.Duration, "length of a round")
			},
		},
		{
			"chain", "Measure reads at the end of forks of forks",
			"Chain measures reads in a fork of a fork of a fork, beside the root and beside a bucket that is no fork.\n" +
				"Takes 7 minutes, and 2 GiB of disk.",
			&chain, &storeload.QuickChain,
			func(fl *pflag.FlagSet) { fl.Var((*counts)(&chain.Depths), "depth", "lengths of the chains") },
		},
		{
			"past", "Measure reads of a bucket as it was",
			"Past measures reads some versions back, beside the tip. Takes a minute, and 1 GiB of disk.",
			&past, &storeload.QuickPast, nil,
		},
		{
			"pages", "Measure reads and writes of pages",
			"Pages reads pages of 8 KiB of large objects at an LSN, and writes them: one by one, in batches, and over a stream with\n" +
				"many under way; in a root and in a fork of forks; of full pages and of pages with deltas; hot and cold. Beside it: random\n" +
				"reads and synced writes of the disk. Takes 9 minutes, and 1 GiB of disk.",
			&pages, &storeload.QuickPages,
			func(fl *pflag.FlagSet) {
				fl.Var((*counts)(&pages.Batches), "batch", "numbers of pages in a request, and of requests under way")
				fl.IntVar(&pages.MiB, "size", pages.MiB, "size of each object, in MiB")
				fl.DurationVar(&pages.Duration, "duration", pages.Duration, "length of a round")
			},
		},
		{
			"diff", "Measure differences of a fork and its source",
			"Diff tells forks with some changes from the bucket of a million objects that they were made of.\n" +
				"Takes a minute, and 1 GiB of disk.",
			&diff, &storeload.QuickDiff, changed(&diff.Changed),
		},
		{
			"merge", "Measure merges, rebases and reverts",
			"Merge merges forks with some changes, of a bucket of a million objects; first as a dry run. It rebases forks onto them, and\n" +
				"reverts the changes. Takes two minutes, and 1 GiB of disk.",
			&merge, &storeload.QuickMerge, changed(&merge.Changed),
		},
		{
			"list", "Measure lists of millions of keys, and the memory that they need",
			"List fills buckets with small objects and lists them, with and without delimiter, in processes whose memory is\n" +
				"limited to 1 GiB (GOMEMLIMIT). Takes 6 minutes, and 4 GiB of disk.",
			&list, &storeload.QuickList,
			func(fl *pflag.FlagSet) {
				fl.Var((*counts)(&list.Keys), "keys", "numbers of keys in the bucket")
				fl.DurationVar(&list.Duration, "duration", list.Duration, "length of a round")
			},
		},
		{
			"reclaim", "Measure how fast dropped forks give their bytes back",
			"Reclaim drops forks that wrote 1 GiB, and measures how fast it comes back and what a load beside it has to wait.\n" +
				"Takes 3 minutes at most, and 4 GiB of disk.",
			&reclaim, &storeload.QuickReclaim, nil,
		},
		{
			"recovery", "Measure the time from kill -9 to ready",
			"Recovery kills servers that have a long log, and starts them again. Takes 2 minutes, and 2 GiB of disk.",
			&recovery, &storeload.QuickRecovery,
			func(fl *pflag.FlagSet) { fl.Var((*counts)(&recovery.LogMiB), "log", "lengths of the log, in MiB") },
		},
		{
			"soak", "Watch memory, disk and latency of a server under load for long",
			"Soak loads a server at a fixed rate, with forks made and dropped beside, and looks at it every few seconds.\n" +
				"Takes 20 minutes, and 2 GiB of disk.",
			&soak, &storeload.QuickSoak,
			func(fl *pflag.FlagSet) {
				fl.DurationVar(&soak.Duration, "duration", soak.Duration, "how long")
				fl.DurationVar(&soak.Sample, "sample", soak.Sample, "time between two looks")
			},
		},
	} {
		all = append(all, b.command())
	}
	return all
}

// changed are the flags of workloads of changes.
func changed(ch *storeload.Changed) func(fl *pflag.FlagSet) {
	return func(fl *pflag.FlagSet) {
		fl.IntVar(&ch.Objects, "objects", ch.Objects, "objects in the bucket")
		fl.Var((*counts)(&ch.Changes), "changes", "numbers of changes")
	}
}

func (b storeBench) command() *cobra.Command {
	var c storeload.Config
	var out jsonFlag
	cmd := &cobra.Command{
		Use:   b.name,
		Short: b.short,
		Long:  b.long,
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if c.Rounds < 1 {
				return usagef("--rounds: want at least one")
			}
			if c.Binary, err = os.Executable(); err != nil {
				return err
			}
			c.Progress = report.Progress{W: cmd.ErrOrStderr()}
			c.Dir = orTempDir(c.Dir)
			w := b.full
			if c.Small {
				w = b.quick
			}
			r := report.New(report.MachineOf(c.Dir), commandLine(cmd))
			r.Rows, err = w.Run(cmd.Context(), &c)
			return out.finish(cmd, r, err)
		},
	}
	fl := cmd.Flags()
	fl.BoolVar(&c.Small, "quick", false, "a small run of a few seconds that shows that it works; flags of size do not count")
	fl.IntVar(&c.Rounds, "rounds", 5, "rounds of each figure")
	addMeasure(fl, &c.Seed, &c.Dir, &out)
	if b.flags != nil {
		b.flags(fl)
	}
	return cmd
}

// counts is a flag value such as 1,10,1000. Setting it replaces all.
type counts []int

// Set implements pflag.Value.
func (c *counts) Set(s string) error {
	var all counts
	for part := range strings.SplitSeq(s, ",") {
		n, err := strconv.Atoi(strings.TrimSpace(part))
		if err != nil || n < 1 {
			return fmt.Errorf("%q: want numbers above zero", s)
		}
		all = append(all, n)
	}
	*c = all
	return nil
}

// String implements pflag.Value.
func (c *counts) String() string {
	var all []string
	for _, n := range *c {
		all = append(all, strconv.Itoa(n))
	}
	return strings.Join(all, ",")
}

// Type implements pflag.Value.
func (c *counts) Type() string { return "numbers" }
