package main

import (
	"encoding/json"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"stemma/client"
)

// jobEvery is how often a command looks at a job that it waits for.
const jobEvery = 500 * time.Millisecond

// waitJob waits for a job that was begun, and tells on standard error how far it is.
func waitJob(cmd *cobra.Command, c *client.Client, j *client.Job) (*client.Job, error) {
	fmt.Fprintf(cmd.ErrOrStderr(), "job %s\n", j.ID)
	return watchJob(cmd, c, j.ID)
}

func watchJob(cmd *cobra.Command, c *client.Client, id string) (*client.Job, error) {
	last := int64(0)
	return c.WaitJob(cmd.Context(), id, jobEvery, func(j *client.Job) {
		if j.Progress != last {
			last = j.Progress
			fmt.Fprintf(cmd.ErrOrStderr(), "%d done\n", last)
		}
	})
}

func newDetach() *cobra.Command {
	return native("detach FORK", "Give a fork entries of its own for all that it inherits",
		"Detach copies what is said of the objects, not the objects, so that the fork needs nothing of what it was forked from, and\n"+
			"that can be deleted for good. It cannot be merged into that afterwards. It is a job: see stemma job.",
		exactArgs("FORK"), nil, func(cmd *cobra.Command, c *client.Client, args []string) (any, func(io.Writer), error) {
			j, err := c.Detach(cmd.Context(), args[0])
			if err == nil {
				j, err = waitJob(cmd, c, j)
			}
			return j, func(w io.Writer) { fmt.Fprintf(w, "%s was detached\n", args[0]) }, err
		})
}

func newJob() *cobra.Command {
	cmd := &cobra.Command{Use: "job", Short: "See and stop what the server does at length"}
	cmd.AddCommand(
		native("list", "List jobs, the newest first", "", exactArgs(), nil, func(cmd *cobra.Command, c *client.Client, _ []string) (any, func(io.Writer), error) {
			list, err := c.Jobs(cmd.Context())
			return list, func(w io.Writer) {
				fmt.Fprintln(w, "JOB\tKIND\tBUCKET\tSTATE\tBEGAN\tDONE")
				for _, j := range list {
					fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%d\n", j.ID, j.Kind, j.Bucket, j.State, when(j.Began), j.Progress)
				}
			}, err
		}),
		native("wait JOB", "Wait for a job", "", exactArgs("JOB"), nil, func(cmd *cobra.Command, c *client.Client, args []string) (any, func(io.Writer), error) {
			j, err := watchJob(cmd, c, args[0])
			return j, func(w io.Writer) { fmt.Fprintln(w, j.State) }, err
		}),
		native("stop JOB", "Cancel a job that runs, or forget one that has ended", "", exactArgs("JOB"), nil, func(cmd *cobra.Command, c *client.Client, args []string) (any, func(io.Writer), error) {
			return nil, nil, c.StopJob(cmd.Context(), args[0])
		}),
		newJobResult(),
	)
	return cmd
}

func newJobResult() *cobra.Command {
	var f nativeFlags
	cmd := &cobra.Command{
		Use: "result JOB", Short: "Print what a difference that was a job has found", Args: exactArgs("JOB"),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := f.client()
			if err != nil {
				return err
			}
			out := json.NewEncoder(cmd.OutOrStdout())
			for d, err := range c.JobResult(cmd.Context(), args[0]) {
				switch {
				case err != nil:
					return fmt.Errorf("job result: %w", err)
				case f.asJSON:
					err = out.Encode(&d)
				default:
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
	return cmd
}
