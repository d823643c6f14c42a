package main

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"stemma/pageserver"
)

// maxPolicyFile bounds a policy document that a command reads.
const maxPolicyFile = 64 << 10

func newUser() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "user",
		Short: "Make and manage users",
		Long: "A user made without --policy owns an account of its own: it makes buckets, may do everything with them and\n" +
			"nothing with those of others, unless their policies or ACLs let it. With --policy it may do what the policies say.",
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newUserCreate(), newUserList(), newUserShow(), newUserSet(), newUserDelete(), newUserPolicy())
	return cmd
}

func newUserCreate() *cobra.Command {
	var f adminFlags
	var in pageserver.NewUser
	cmd := &cobra.Command{
		Use:   "create NAME",
		Short: "Make a user with an access key, and show the key",
		Args:  exactArgs("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if (in.AccessKey == "") != (in.SecretKey == "") {
				return usagef("--access-key and --secret-key come together")
			}
			in.Name = args[0]
			var u pageserver.NewUserAnswer
			if err := f.call(cmd.Context(), http.MethodPost, "v1/users", nil, &in, &u); err != nil {
				return fmt.Errorf("create user %s: %w", args[0], err)
			}
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "name        %s\nid          %s\naccess key  %s\nsecret key  %s\n", u.Name, u.ID, u.AccessKey, u.SecretKey)
			return err
		},
	}
	fl := cmd.Flags()
	fl.StringVar(&in.ID, "id", "", "canonical user id (default: a new one)")
	fl.StringVar(&in.DisplayName, "display-name", "", "name to show (default: NAME)")
	fl.StringVar(&in.Email, "email", "", "email address, which grants may name")
	fl.StringVar(&in.AccessKey, "access-key", "", "access key (default: a new one)")
	fl.StringVar(&in.SecretKey, "secret-key", "", "secret of the access key")
	fl.StringSliceVar(&in.Policies, "policy", nil, "policies: readwrite, readonly, writeonly, admin, or managed ones; may be repeated")
	fl.StringVar(&in.Account, "account", "", "canonical id of the account to be a member of (default: an account of its own)")
	f.add(cmd)
	return cmd
}

func newUserList() *cobra.Command {
	var f adminFlags
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List all users",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			users := []pageserver.User{}
			for q := (url.Values{}); ; {
				var page pageserver.UsersAnswer
				if err := f.call(cmd.Context(), http.MethodGet, "v1/users", q, nil, &page); err != nil {
					return fmt.Errorf("list users: %w", err)
				}
				users = append(users, page.Users...)
				if page.Next == "" {
					break
				}
				q.Set("after", page.Next)
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), users)
			}
			return printTable(cmd.OutOrStdout(), "NAME\tID\tDISPLAY NAME\tPOLICIES", users, func(u pageserver.User) []string {
				return []string{u.Name, u.ID, u.DisplayName, policiesOf(&u)}
			})
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "as JSON")
	f.add(cmd)
	return cmd
}

// policiesOf names what a user may do by.
func policiesOf(u *pageserver.User) string {
	var names []string
	if u.Owner {
		names = append(names, "(owner)")
	}
	names = append(names, u.Attached...)
	for name := range u.Inline {
		names = append(names, name)
	}
	slices.Sort(names)
	return strings.Join(names, ",")
}

func newUserShow() *cobra.Command {
	var f adminFlags
	cmd := &cobra.Command{
		Use:   "show NAME",
		Short: "Show a user with its policies, as JSON",
		Args:  exactArgs("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			var u pageserver.User
			if err := f.call(cmd.Context(), http.MethodGet, path.Join("v1/users", args[0]), nil, nil, &u); err != nil {
				return fmt.Errorf("show user %s: %w", args[0], err)
			}
			return printJSON(cmd.OutOrStdout(), &u)
		},
	}
	f.add(cmd)
	return cmd
}

func newUserSet() *cobra.Command {
	var f adminFlags
	var display, email string
	cmd := &cobra.Command{
		Use:   "set NAME",
		Short: "Change the display name or the email address of a user",
		Args:  exactArgs("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			var in pageserver.UserChange
			if cmd.Flags().Changed("display-name") {
				in.DisplayName = &display
			}
			if cmd.Flags().Changed("email") {
				in.Email = &email
			}
			if in == (pageserver.UserChange{}) {
				return usagef("want --display-name or --email")
			}
			if err := f.call(cmd.Context(), http.MethodPut, path.Join("v1/users", args[0]), nil, &in, nil); err != nil {
				return fmt.Errorf("change user %s: %w", args[0], err)
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&display, "display-name", "", "name to show")
	cmd.Flags().StringVar(&email, "email", "", "email address; empty: none")
	f.add(cmd)
	return cmd
}

func newUserDelete() *cobra.Command {
	var f adminFlags
	var force bool
	cmd := &cobra.Command{
		Use:   "delete NAME",
		Short: "Delete a user; its buckets stay",
		Args:  exactArgs("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			q := url.Values{}
			if force {
				q.Set("force", "true")
			}
			if err := f.call(cmd.Context(), http.MethodDelete, path.Join("v1/users", args[0]), q, nil, nil); err != nil {
				return fmt.Errorf("delete user %s: %w", args[0], err)
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&force, "force", false, "delete it although it has keys and policies")
	f.add(cmd)
	return cmd
}

func newUserPolicy() *cobra.Command {
	var f adminFlags
	var in pageserver.PolicyChange
	cmd := &cobra.Command{
		Use:   "policy NAME [FILE]",
		Short: "Attach, detach, put or delete a policy of a user",
		Long: "Policy changes one of the policies of user NAME. --attach and --detach name a managed policy; --put gives it the\n" +
			"document in FILE (- is standard input) as an inline policy, --delete takes that away again.",
		Args: betweenArgs(1, "NAME", "FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			given := 0
			for _, s := range []string{in.Attach, in.Detach, in.Put, in.Delete} {
				if s != "" {
					given++
				}
			}
			if given != 1 {
				return usagef("want one of --attach, --detach, --put and --delete")
			}
			if (in.Put != "") != (len(args) == 2) {
				return usagef("--put and FILE come together")
			}
			if len(args) == 2 {
				var err error
				if in.Document, err = readDocument(args[1], cmd.InOrStdin()); err != nil {
					return err
				}
			}
			if err := f.call(cmd.Context(), http.MethodPost, path.Join("v1/users", args[0], "policy"), nil, &in, nil); err != nil {
				return fmt.Errorf("policy of user %s: %w", args[0], err)
			}
			return nil
		},
	}
	fl := cmd.Flags()
	fl.StringVar(&in.Attach, "attach", "", "managed policy to attach")
	fl.StringVar(&in.Detach, "detach", "", "managed policy to detach")
	fl.StringVar(&in.Put, "put", "", "name of the inline policy to put")
	fl.StringVar(&in.Delete, "delete", "", "name of the inline policy to delete")
	f.add(cmd)
	return cmd
}

func newPolicy() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "policy",
		Short: "Manage policies that users share",
		Args:  noArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newPolicyList(), newPolicyPut(), newPolicyDelete())
	return cmd
}

func newPolicyList() *cobra.Command {
	var f adminFlags
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List managed policies with their documents",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var list []pageserver.Policy
			if err := f.call(cmd.Context(), http.MethodGet, "v1/policies", nil, nil, &list); err != nil {
				return fmt.Errorf("list policies: %w", err)
			}
			return printTable(cmd.OutOrStdout(), "NAME\tDOCUMENT", list, func(p pageserver.Policy) []string {
				return []string{p.Name, strings.Join(strings.Fields(p.Document), " ")}
			})
		},
	}
	f.add(cmd)
	return cmd
}

func newPolicyPut() *cobra.Command {
	var f adminFlags
	cmd := &cobra.Command{
		Use:   "put NAME FILE",
		Short: "Make or replace a managed policy; - is standard input",
		Args:  exactArgs("NAME", "FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			document, err := readDocument(args[1], cmd.InOrStdin())
			if err != nil {
				return err
			}
			in := pageserver.Policy{Document: document}
			if err := f.call(cmd.Context(), http.MethodPut, path.Join("v1/policies", args[0]), nil, &in, nil); err != nil {
				return fmt.Errorf("put policy %s: %w", args[0], err)
			}
			return nil
		},
	}
	f.add(cmd)
	return cmd
}

func newPolicyDelete() *cobra.Command {
	var f adminFlags
	var force bool
	cmd := &cobra.Command{
		Use:   "delete NAME",
		Short: "Delete a managed policy",
		Args:  exactArgs("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			q := url.Values{}
			if force {
				q.Set("force", "true")
			}
			if err := f.call(cmd.Context(), http.MethodDelete, path.Join("v1/policies", args[0]), q, nil, nil); err != nil {
				return fmt.Errorf("delete policy %s: %w", args[0], err)
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&force, "force", false, "detach it from all users first")
	f.add(cmd)
	return cmd
}

// readDocument reads a policy document from a file, or from in if the name is -.
func readDocument(name string, in io.Reader) (string, error) {
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return "", fmt.Errorf("read policy: %w", err)
		}
		defer f.Close()
		in = f
	}
	p, err := io.ReadAll(io.LimitReader(in, maxPolicyFile+1))
	if err != nil {
		return "", fmt.Errorf("read policy %s: %w", name, err)
	}
	if len(p) > maxPolicyFile {
		return "", usagef("policy %s is longer than %d bytes", name, maxPolicyFile)
	}
	return strings.TrimSpace(string(p)), nil
}

// printTable prints a row of columns for each element of a list.
func printTable[T any](out io.Writer, header string, list []T, row func(T) []string) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, header)
	for _, v := range list {
		fmt.Fprintln(w, strings.Join(row(v), "\t"))
	}
	return w.Flush()
}

// shortTime formats a time for a table.
func shortTime(t time.Time) string { return t.UTC().Format(time.RFC3339) }
