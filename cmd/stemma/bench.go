package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"stemma/benchmarks/limits"
	"stemma/benchmarks/report"
	"stemma/benchmarks/s3load"
	"stemma/benchmarks/suite"
)

func newBench() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "bench",
		Short: "Measure a server, the limits of this machine, or two servers beside each other",
		Args:  noArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newBenchS3(), newBenchLimits(), newBenchAB(), newBenchBare())
	cmd.AddCommand(newStoreBenches()...)
	return cmd
}

// measureFlags say how long and with what is measured, and where the result goes.
type measureFlags struct {
	config         suite.Config
	sizes          byteSizes
	json           jsonFlag
	ops            []string
	payload        string
	remote         bool
	who            credentialFlags
	access, secret string
}

// add adds the flags that every measurement has.
func (f *measureFlags) add(fl *pflag.FlagSet) {
	c := &f.config
	fl.Var(&f.sizes, "size", "sizes of objects, such as 4KiB,10MiB")
	fl.IntVar(&c.Clients, "clients", 8, "requests under way at once")
	fl.DurationVar(&c.Duration, "duration", 20*time.Second, "length of a round")
	fl.DurationVar(&c.Warmup, "warmup", time.Second, "load before a round is measured")
	fl.IntVar(&c.Rounds, "rounds", 3, "rounds of each workload")
	addMeasure(fl, &c.Seed, &c.Dir, &f.json)
}

// addMeasure adds the flags that all of stemma bench has.
func addMeasure(fl *pflag.FlagSet, seed *uint64, dir *string, out *jsonFlag) {
	fl.Uint64Var(seed, "seed", 1, "seed of all that is random")
	fl.StringVar(dir, "dir", "", "directory on the disk to measure; default: the one for temporary files")
	fl.StringVar((*string)(out), "json", "", "file to write the result to, as JSON")
}

// orTempDir returns dir, or the directory for temporary files.
func orTempDir(dir string) string {
	if dir == "" {
		return os.TempDir()
	}
	return dir
}

// addLoad adds those of load over S3.
func (f *measureFlags) addLoad(fl *pflag.FlagSet) {
	c := &f.config
	fl.StringSliceVar(&f.ops, "ops", nil, "workloads: "+strings.Join(s3load.Ops(), ", ")+"; default: those that the size matters to, and all for the first size if that is below 1 MiB")
	fl.Float64Var(&c.Rate, "rate", 0, "requests a second of an open loop, whose latencies count from when a request was meant to start; 0: a closed loop")
	fl.IntVar(&c.Objects, "objects", 2500, "objects to read; fewer if they take more than 256 MiB")
	fl.IntVar(&c.Keys, "keys", 10000, "objects to list")
	fl.IntVar(&c.Deletes, "deletes", 10000, "objects to delete in a round, which ends when all are gone; fewer if they take more than 256 MiB")
	fl.StringVar(&f.payload, "payload", "signed", "how bodies are signed: signed, unsigned, streaming")
	fl.BoolVar(&c.Verify, "verify", false, "compare every byte that is read with what was put")
	fl.StringVar(&f.access, "access-key", "", "key of the endpoint; default: the root keys or AWS keys of the environment")
	fl.StringVar(&f.secret, "secret-key", "", "its secret")
	fl.StringVar(&f.who.region, "region", defaultRegion, "region to sign requests for")
	fl.BoolVar(&f.remote, "allow-remote", false, "load an endpoint that is not on the loopback")
}

// prepare checks the flags and completes the configuration.
func (f *measureFlags) prepare(stderr io.Writer) error {
	c := &f.config
	c.Sizes, c.Ops, c.Progress = f.sizes.bytes(), f.ops, report.Progress{W: stderr}
	c.Dir = orTempDir(c.Dir)
	if c.Clients < 1 || c.Rounds < 1 || c.Duration <= 0 || c.Warmup < 0 || c.Rate < 0 || len(c.Sizes) == 0 {
		return usagef("want at least one size, client and round, and a duration and rate that are not negative")
	}
	for _, size := range c.Sizes {
		if size < 1 {
			return usagef("--size: an object has at least one byte")
		}
	}
	for _, op := range c.Ops {
		if !slices.Contains(s3load.Ops(), op) {
			return usagef("--ops: no operation %q; there are %s", op, strings.Join(s3load.Ops(), ", "))
		}
	}
	if f.payload != "" {
		var ok bool
		if c.Payload, ok = s3load.ParsePayload(f.payload); !ok {
			return usagef("--payload %q: want signed, unsigned or streaming", f.payload)
		}
		if c.Objects < 1 || c.Keys < 1 || c.Deletes < 1 {
			return usagef("--objects, --keys and --deletes: want at least one")
		}
	}
	return nil
}

// site returns somebody else's endpoint.
func (f *measureFlags) site(flag, endpoint string, pid int) (*suite.Site, error) {
	u, err := parseEndpoint(flag, endpoint)
	if err != nil {
		return nil, err
	}
	if err := suite.CheckLoopback(endpoint); err != nil && !f.remote {
		return nil, usagef("--%s: %w: add --allow-remote to load it all the same", flag, err)
	}
	s := &suite.Site{Endpoint: u.Scheme + "://" + u.Host, AccessKey: f.access, SecretKey: f.secret, Region: f.who.region, Pid: pid}
	if s.AccessKey == "" && s.SecretKey == "" {
		k, err := f.who.keys()
		if err != nil {
			return nil, err
		}
		s.AccessKey, s.SecretKey = k.ID, k.Secret
	}
	return s, nil
}

// bareCommand is what runs a bare server, the size to be appended.
func bareCommand() (self string, command []string, err error) {
	self, err = os.Executable()
	return self, []string{self, "bench", "bare", "--bytes"}, err
}

// commandLine is what was called, without the keys.
func commandLine(cmd *cobra.Command) string {
	line := cmd.CommandPath()
	cmd.Flags().Visit(func(f *pflag.Flag) {
		if f.Name != "access-key" && f.Name != "secret-key" {
			line += fmt.Sprintf(" --%s=%s", f.Name, strings.Trim(f.Value.String(), "[]"))
		}
	})
	return line
}

// jsonFlag is the file of --json; empty: none.
type jsonFlag string

// finish shows the result and writes it to --json. What was measured before err is
// shown too.
func (f jsonFlag) finish(cmd *cobra.Command, r *report.Report, err error) error {
	if len(r.Rows) == 0 && len(r.Comparisons) == 0 {
		return err
	}
	err = errors.Join(err, r.WriteTable(cmd.OutOrStdout()))
	if f == "" {
		return err
	}
	out, cerr := os.Create(string(f))
	if cerr != nil {
		return errors.Join(err, cerr)
	}
	return errors.Join(err, r.WriteJSON(out), out.Close())
}

func newBenchS3() *cobra.Command {
	f := measureFlags{sizes: byteSizes{4 << 10, 64 << 10, 1 << 20, 10 << 20}}
	var endpoint string
	var pid int
	var withLimits bool
	cmd := &cobra.Command{
		Use:   "s3",
		Short: "Measure S3 requests to a server",
		Long: "S3 measures how fast a server answers S3 requests. Without --endpoint it starts a server of its own, with an\n" +
			"empty data directory for each size, and removes it. Limits of this machine are measured in between, and the\n" +
			"figures are given as a part of them. Objects go to new buckets, which are deleted in the end.",
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := f.prepare(cmd.ErrOrStderr()); err != nil {
				return err
			}
			self, bare, err := bareCommand()
			if err != nil {
				return err
			}
			if withLimits {
				f.config.Bare = bare
			}
			open := func() (*suite.Site, error) { return suite.StartSite(self, f.config.Dir) }
			if endpoint != "" {
				s, err := f.site("endpoint", endpoint, pid)
				if err != nil {
					return err
				}
				open = func() (*suite.Site, error) { return s, nil }
			}
			r := report.New(report.MachineOf(f.config.Dir), commandLine(cmd))
			r.Rows, err = suite.S3(cmd.Context(), f.config, open)
			return f.json.finish(cmd, r, err)
		},
	}
	fl := cmd.Flags()
	f.add(fl)
	f.addLoad(fl)
	fl.StringVar(&endpoint, "endpoint", "", "address of the server; default: one of its own")
	fl.IntVar(&pid, "server-pid", 0, "process of the server at --endpoint, for its processor time")
	fl.BoolVar(&withLimits, "limits", true, "measure limits beside the figures")
	return cmd
}

func newBenchLimits() *cobra.Command {
	f := measureFlags{sizes: byteSizes{4 << 10, 1 << 20}}
	cmd := &cobra.Command{
		Use:   "limits",
		Short: "Measure what this machine can do without Stemma",
		Long: "Limits measures the disk (sequential write, write and sync, random reads, all O_DIRECT), Pebble with synced\n" +
			"writes, and an HTTP server that does nothing.",
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if err := f.prepare(cmd.ErrOrStderr()); err != nil {
				return err
			}
			f.config.Objects, f.config.Keys, f.config.Deletes = 1, 1, 1
			if _, f.config.Bare, err = bareCommand(); err != nil {
				return err
			}
			r := report.New(report.MachineOf(f.config.Dir), commandLine(cmd))
			r.Rows, err = suite.Limits(cmd.Context(), f.config)
			return f.json.finish(cmd, r, err)
		},
	}
	f.add(cmd.Flags())
	return cmd
}

func newBenchAB() *cobra.Command {
	f := measureFlags{sizes: byteSizes{4 << 10, 1 << 20}}
	var ends, binaries [2]string
	var pids [2]int
	cmd := &cobra.Command{
		Use:   "ab",
		Short: "Measure two servers beside each other",
		Long: "AB measures two endpoints (--a, --b), or servers of two binaries (--a-binary, --b-binary), in interleaved rounds,\n" +
			"and gives how b did beside a as a ratio with its 95 % confidence interval. Five rounds are the least that\n" +
			"makes an interval mean something.",
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := f.prepare(cmd.ErrOrStderr()); err != nil {
				return err
			}
			var open [2]func() (*suite.Site, error)
			for i, name := range []string{"a", "b"} {
				var err error
				if open[i], err = f.opener(name, ends[i], binaries[i], pids[i]); err != nil {
					return err
				}
			}
			r := report.New(report.MachineOf(f.config.Dir), commandLine(cmd))
			var err error
			r.Comparisons, err = suite.AB(cmd.Context(), f.config, open[0], open[1])
			return f.json.finish(cmd, r, err)
		},
	}
	fl := cmd.Flags()
	f.add(fl)
	f.addLoad(fl)
	for i, name := range []string{"a", "b"} {
		fl.StringVar(&ends[i], name, "", "address of server "+name)
		fl.StringVar(&binaries[i], name+"-binary", "", "stemma binary to start as server "+name)
		fl.IntVar(&pids[i], name+"-pid", 0, "process of the server at --"+name+", for its processor time")
	}
	return cmd
}

// opener returns what opens one of two sites.
func (f *measureFlags) opener(name, endpoint, binary string, pid int) (func() (*suite.Site, error), error) {
	if (endpoint == "") == (binary == "") {
		return nil, usagef("want either --%s or --%s-binary", name, name)
	}
	if binary != "" {
		return func() (*suite.Site, error) { return suite.StartSite(binary, f.config.Dir) }, nil
	}
	s, err := f.site(name, endpoint, pid)
	if err != nil {
		return nil, err
	}
	return func() (*suite.Site, error) { return s, nil }, nil
}

// newBenchBare is the bare server that others are measured beside.
func newBenchBare() *cobra.Command {
	var bytes int
	cmd := &cobra.Command{
		Use:    "bare",
		Short:  "Answer every get with the same bytes, on a free port of the loopback",
		Hidden: true,
		Args:   noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return limits.ServeBare(cmd.Context(), bytes, cmd.OutOrStdout())
		},
	}
	cmd.Flags().IntVar(&bytes, "bytes", 4<<10, "size of the answer")
	return cmd
}

// byteSizes is a flag value such as 4KiB,1MiB. Setting it replaces all.
type byteSizes []byteSize

// Set implements pflag.Value.
func (b *byteSizes) Set(s string) error {
	var all byteSizes
	for part := range strings.SplitSeq(s, ",") {
		var one byteSize
		if err := one.Set(strings.TrimSpace(part)); err != nil {
			return err
		}
		all = append(all, one)
	}
	*b = all
	return nil
}

// String implements pflag.Value.
func (b *byteSizes) String() string {
	var all []string
	for i := range *b {
		all = append(all, (*b)[i].String())
	}
	return strings.Join(all, ",")
}

// Type implements pflag.Value.
func (b *byteSizes) Type() string { return "sizes" }

func (b *byteSizes) bytes() []int {
	all := make([]int, len(*b))
	for i, n := range *b {
		all[i] = int(n)
	}
	return all
}
