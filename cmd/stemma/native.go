package main

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/spf13/cobra"

	"stemma/client"
)

// nativeFlags are those of commands that speak the native API.
type nativeFlags struct {
	admin  adminFlags
	asJSON bool
}

func (f *nativeFlags) add(cmd *cobra.Command) {
	f.admin.add(cmd)
	cmd.Flags().BoolVar(&f.asJSON, "json", false, "print the answer of the server")
}

func (f *nativeFlags) client() (*client.Client, error) {
	return f.admin.who.nativeClient(f.admin.endpoint)
}

// nativeClient returns a client of the native API at an address.
func (f *credentialFlags) nativeClient(endpoint string) (*client.Client, error) {
	endpoint, err := f.endpoint(endpoint, "http://"+defaultAdminListen, true)
	if err != nil {
		return nil, err
	}
	u, err := parseEndpoint("admin-endpoint", endpoint)
	if err != nil {
		return nil, err
	}
	k, err := f.keys()
	if err != nil {
		return nil, err
	}
	through, err := f.transport()
	if err != nil {
		return nil, err
	}
	return client.New(client.Options{
		Endpoint: u.Scheme + "://" + u.Host, AccessKey: k.ID, SecretKey: k.Secret, Region: f.region, HTTP: &http.Client{Transport: through},
	})
}

// show prints v as JSON, or what text writes, in columns that tabs part.
func (f *nativeFlags) show(cmd *cobra.Command, v any, text func(w io.Writer)) error {
	if f.asJSON {
		return printJSON(cmd.OutOrStdout(), v)
	}
	w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
	text(w)
	return w.Flush()
}

// native returns a command that asks the native API. run gets a client and the arguments, and returns what to print.
func native(use, short, long string, args cobra.PositionalArgs, flags func(*cobra.Command), run func(cmd *cobra.Command, c *client.Client, args []string) (any, func(io.Writer), error)) *cobra.Command {
	var f nativeFlags
	cmd := &cobra.Command{
		Use: use, Short: short, Long: long, Args: args, ValidArgsFunction: f.completeBuckets,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := f.client()
			if err != nil {
				return err
			}
			v, text, err := run(cmd, c, args)
			if err != nil {
				return fmt.Errorf("%s: %w", strings.TrimPrefix(cmd.CommandPath(), "stemma "), err)
			}
			if v == nil {
				return nil
			}
			return f.show(cmd, v, text)
		},
	}
	f.add(cmd)
	if flags != nil {
		flags(cmd)
	}
	return cmd
}

// completeBuckets completes the name of a bucket.
func (f *nativeFlags) completeBuckets(cmd *cobra.Command, _ []string, begun string) ([]string, cobra.ShellCompDirective) {
	if err := setFromEnv(cmd.Flags(), os.LookupEnv); err != nil { // completion runs no hook
		return nil, cobra.ShellCompDirectiveError
	}
	c, err := f.client()
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	page, err := c.Buckets(cmd.Context(), client.ListOptions{Prefix: begun, Limit: 100})
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	var names []string
	for _, b := range page.Buckets {
		names = append(names, b.Name)
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

// Exit codes of what the server refuses; see the help of the root.
const (
	exitConflict  = 3
	exitCondition = 4
	exitNotFound  = 5
)

// refusal returns the exit code of an error of the server; zero when it is none of those that have one.
func refusal(err error) int {
	var native *client.Error
	var s3 minio.ErrorResponse
	status := 0
	if errors.As(err, &native) {
		status = native.Status
	} else if errors.As(err, &s3) {
		status = s3.StatusCode
	}
	switch status {
	case http.StatusConflict:
		return exitConflict
	case http.StatusPreconditionFailed:
		return exitCondition
	case http.StatusNotFound, http.StatusGone:
		return exitNotFound
	}
	return 0
}

// atPoint takes BUCKET[@POINT] apart.
func atPoint(s string) (bucket, at string) {
	bucket, at, _ = strings.Cut(s, "@")
	return bucket, at
}

func when(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05Z") }

func whenMaybe(t *time.Time) string {
	if t == nil {
		return ""
	}
	return when(*t)
}

// parseLSN parses the value of a flag that is an LSN; empty is zero.
func parseLSN(flag, s string) (client.LSN, error) {
	if s == "" {
		return 0, nil
	}
	var n client.LSN
	if _, err := fmt.Sscan(s, &n); err != nil || n == 0 || n.String() != s {
		return 0, usagef("--%s %q: want an LSN", flag, s)
	}
	return n, nil
}
