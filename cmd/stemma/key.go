package main

import (
	"fmt"
	"net/http"
	"net/url"
	"path"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"stemma/pageserver"
)

func newKey() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "key",
		Short: "Make and manage access keys",
		Args:  noArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newKeyCreate(), newKeyList(), newKeyDelete(), newKeyRotate(), newKeyScope(),
		newKeyActive("enable", "Let an access key work again", true), newKeyActive("disable", "Have an access key not work for a time", false))
	return cmd
}

// scopeFlags hold a key to buckets.
type scopeFlags struct{ buckets, readOnly []string }

func (f *scopeFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringSliceVar(&f.buckets, "bucket", nil, "bucket or fork that the key may read and write, and no other; may be repeated")
	cmd.Flags().StringSliceVar(&f.readOnly, "read-only-bucket", nil, "bucket or fork that the key may read, and no other; may be repeated")
}

func (f *scopeFlags) scope() []pageserver.KeyScope {
	list := []pageserver.KeyScope{}
	for _, b := range f.buckets {
		list = append(list, pageserver.KeyScope{Bucket: b, Role: "editor"})
	}
	for _, b := range f.readOnly {
		list = append(list, pageserver.KeyScope{Bucket: b, Role: "readonly"})
	}
	return list
}

func newKeyCreate() *cobra.Command {
	var f adminFlags
	var scope scopeFlags
	var in pageserver.NewAccessKey
	var expires time.Duration
	cmd := &cobra.Command{
		Use:   "create",
		Short: "Make an access key of a user, or one that is held to buckets, and show it",
		Long: "Create makes an access key of --user, or without one of the root. With --bucket and --read-only-bucket the key can\n" +
			"do nothing elsewhere, and goes when these buckets are gone: one for each agent and its fork. A key of the root needs them.",
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if (in.AccessKey == "") != (in.SecretKey == "") {
				return usagef("--access-key and --secret-key come together")
			}
			in.Scope = scope.scope()
			if in.User == "" && len(in.Scope) == 0 {
				return usagef("want --user, --bucket or --read-only-bucket")
			}
			if cmd.Flags().Changed("expires-in") {
				if expires <= 0 {
					return usagef("--expires-in %v: want a duration such as 24h", expires)
				}
				at := time.Now().Add(expires)
				in.Expires = &at
			}
			var k pageserver.AccessKey
			if err := f.call(cmd.Context(), http.MethodPost, "v1/keys", nil, &in, &k); err != nil {
				return fmt.Errorf("create access key: %w", err)
			}
			return printKey(cmd, &k)
		},
	}
	fl := cmd.Flags()
	fl.StringVar(&in.User, "user", "", "name or canonical id of the user (default: the root)")
	fl.StringVar(&in.AccessKey, "access-key", "", "access key (default: a new one)")
	fl.StringVar(&in.SecretKey, "secret-key", "", "secret of the access key")
	fl.StringVar(&in.Description, "description", "", "what it is for")
	fl.DurationVar(&expires, "expires-in", 0, "how long the key works (default: for ever)")
	scope.add(cmd)
	f.add(cmd)
	return cmd
}

func printKey(cmd *cobra.Command, k *pageserver.AccessKey) error {
	_, err := fmt.Fprintf(cmd.OutOrStdout(), "access key  %s\nsecret key  %s\n", k.ID, k.SecretKey)
	return err
}

func newKeyList() *cobra.Command {
	var f adminFlags
	var user string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List access keys, of all users or of one; never their secrets",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			q := url.Values{}
			if user != "" {
				q.Set("user", user)
			}
			var list []pageserver.AccessKey
			if err := f.call(cmd.Context(), http.MethodGet, "v1/keys", q, nil, &list); err != nil {
				return fmt.Errorf("list access keys: %w", err)
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), list)
			}
			return printTable(cmd.OutOrStdout(), "ACCESS KEY\tUSER\tSTATE\tCREATED\tBUCKETS\tDESCRIPTION", list, func(k pageserver.AccessKey) []string {
				return []string{k.ID, k.User, keyState(&k), shortTime(k.Created), keyBuckets(&k), k.Description}
			})
		},
	}
	cmd.Flags().StringVar(&user, "user", "", "name or canonical id of a user")
	cmd.Flags().BoolVar(&asJSON, "json", false, "as JSON")
	f.add(cmd)
	return cmd
}

func keyState(k *pageserver.AccessKey) string {
	switch {
	case !k.Active:
		return "disabled"
	case k.Expires == nil:
		return "active"
	case k.Expires.Before(time.Now()):
		return "expired"
	}
	return "until " + shortTime(*k.Expires)
}

func keyBuckets(k *pageserver.AccessKey) string {
	var names []string
	for _, s := range k.Scope {
		name := s.Bucket
		if name == "" {
			name = fmt.Sprintf("#%d (deleted)", s.ID)
		}
		if s.Role == "readonly" {
			name += " (read only)"
		}
		names = append(names, name)
	}
	return strings.Join(names, ", ")
}

func newKeyDelete() *cobra.Command {
	var f adminFlags
	cmd := &cobra.Command{
		Use:   "delete KEY",
		Short: "Delete an access key",
		Args:  exactArgs("KEY"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := f.call(cmd.Context(), http.MethodDelete, path.Join("v1/keys", args[0]), nil, nil, nil); err != nil {
				return fmt.Errorf("delete access key %s: %w", args[0], err)
			}
			return nil
		},
	}
	f.add(cmd)
	return cmd
}

func newKeyRotate() *cobra.Command {
	var f adminFlags
	cmd := &cobra.Command{
		Use:   "rotate KEY",
		Short: "Give an access key a new secret, and show it",
		Args:  exactArgs("KEY"),
		RunE: func(cmd *cobra.Command, args []string) error {
			var k pageserver.AccessKey
			if err := f.call(cmd.Context(), http.MethodPost, path.Join("v1/keys", args[0], "rotate"), nil, nil, &k); err != nil {
				return fmt.Errorf("rotate access key %s: %w", args[0], err)
			}
			return printKey(cmd, &k)
		},
	}
	f.add(cmd)
	return cmd
}

func newKeyScope() *cobra.Command {
	var f adminFlags
	var scope scopeFlags
	cmd := &cobra.Command{
		Use:   "scope KEY",
		Short: "Hold an access key to other buckets than before; without any, let it go everywhere that its user may",
		Args:  exactArgs("KEY"),
		RunE: func(cmd *cobra.Command, args []string) error {
			list := scope.scope()
			in := pageserver.KeyChange{Scope: &list}
			if err := f.call(cmd.Context(), http.MethodPut, path.Join("v1/keys", args[0]), nil, &in, nil); err != nil {
				return fmt.Errorf("scope of access key %s: %w", args[0], err)
			}
			return nil
		},
	}
	scope.add(cmd)
	f.add(cmd)
	return cmd
}

func newKeyActive(use, short string, active bool) *cobra.Command {
	var f adminFlags
	cmd := &cobra.Command{
		Use:   use + " KEY",
		Short: short,
		Args:  exactArgs("KEY"),
		RunE: func(cmd *cobra.Command, args []string) error {
			in := pageserver.KeyChange{Active: &active}
			if err := f.call(cmd.Context(), http.MethodPut, path.Join("v1/keys", args[0]), nil, &in, nil); err != nil {
				return fmt.Errorf("%s access key %s: %w", use, args[0], err)
			}
			return nil
		},
	}
	f.add(cmd)
	return cmd
}
