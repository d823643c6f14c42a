package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	"github.com/spf13/cobra"
)

func newLs() *cobra.Command {
	var f clientFlags
	var at atFlag
	var recursive bool
	cmd := &cobra.Command{
		Use:   "ls BUCKET[/PREFIX]",
		Short: "List a bucket, now or at an earlier time",
		Args:  exactArgs("BUCKET[/PREFIX]"),
		RunE: func(cmd *cobra.Command, args []string) error {
			t, err := f.open(args[0], &at)
			if err != nil {
				return err
			}
			out := bufio.NewWriter(cmd.OutOrStdout())
			for obj := range t.list(cmd.Context(), recursive) {
				if obj.Err != nil {
					return fmt.Errorf("list %s: %w", args[0], errors.Join(obj.Err, out.Flush()))
				}
				when, size := "", ""
				if !obj.LastModified.IsZero() { // zero for a common prefix
					when, size = obj.LastModified.UTC().Format("2006-01-02T15:04:05Z"), strconv.FormatInt(obj.Size, 10)
				}
				fmt.Fprintf(out, "%20s %12s %s\n", when, size, strings.TrimPrefix(obj.Key, t.under))
			}
			return out.Flush()
		},
	}
	f.add(cmd)
	at.add(cmd, "list the bucket as it was")
	cmd.Flags().BoolVarP(&recursive, "recursive", "r", false, "list every key, not one level")
	return cmd
}

func newCat() *cobra.Command {
	var f clientFlags
	var at atFlag
	cmd := &cobra.Command{
		Use:   "cat BUCKET/KEY",
		Short: "Write an object to standard output, now or at an earlier time",
		Args:  exactArgs("BUCKET/KEY"),
		RunE: func(cmd *cobra.Command, args []string) error {
			t, err := f.open(args[0], &at)
			if err != nil {
				return err
			}
			if t.key == t.under {
				return usagef("%q: want BUCKET/KEY", args[0])
			}
			if err := t.fetch(cmd.Context(), t.key, cmd.OutOrStdout()); err != nil {
				return fmt.Errorf("get %s: %w", args[0], err)
			}
			return nil
		},
	}
	f.add(cmd)
	at.add(cmd, "read the object as it was")
	return cmd
}

func newGet() *cobra.Command {
	var f clientFlags
	var at atFlag
	cmd := &cobra.Command{
		Use:   "get BUCKET[/PREFIX] DIR",
		Short: "Copy a bucket or a prefix to a directory, now or at an earlier time",
		Long: "Get copies every object whose key begins with PREFIX to DIR, under the key without the part of PREFIX\n" +
			"that ends in a slash. With --at all of them are as they were at one moment.",
		Args: exactArgs("BUCKET[/PREFIX]", "DIR"),
		RunE: func(cmd *cobra.Command, args []string) error {
			t, err := f.open(args[0], &at)
			if err != nil {
				return err
			}
			g := getter{target: t}
			n, err := g.run(cmd.Context(), args[1])
			if err != nil {
				return fmt.Errorf("get %s: %w", args[0], err)
			}
			fmt.Fprintf(cmd.ErrOrStderr(), "%d objects\n", n)
			return nil
		},
	}
	f.add(cmd)
	at.add(cmd, "copy the bucket as it was")
	return cmd
}

// getter copies the objects under a prefix to a directory.
type getter struct {
	target
	dir *os.Root // keys that would lead out of it are refused
}

// getWorkers is the number of objects that are fetched at once.
const getWorkers = 8

// run lists and fetches; it returns the number of objects listed and the first error.
func (g *getter) run(ctx context.Context, dir string) (n int, err error) {
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return 0, err
	}
	if g.dir, err = os.OpenRoot(dir); err != nil {
		return 0, err
	}
	defer g.dir.Close()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	keys := make(chan string)
	var workers sync.WaitGroup
	for range getWorkers {
		workers.Go(func() {
			for key := range keys {
				if err := g.copy(ctx, key); err != nil {
					cancel(fmt.Errorf("%q: %w", key, err))
				}
			}
		})
	}
	for obj := range g.list(ctx, true) {
		if obj.Err != nil {
			cancel(obj.Err)
			break
		}
		keys <- obj.Key
		n++
	}
	close(keys)
	workers.Wait()
	return n, context.Cause(ctx)
}

// copy copies one object to its file.
func (g *getter) copy(ctx context.Context, key string) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	name := key[strings.LastIndexByte(g.key, '/')+1:]
	if name == "" {
		return nil // the marker of the prefix itself
	}
	path := filepath.FromSlash(name)
	if strings.HasSuffix(name, "/") {
		return g.dir.MkdirAll(filepath.Clean(path), 0o777)
	}
	if err := g.dir.MkdirAll(filepath.Dir(path), 0o777); err != nil {
		return err
	}
	file, err := g.dir.Create(path)
	if err != nil {
		return err
	}
	err = errors.Join(g.fetch(ctx, key, file), file.Close())
	if err != nil {
		return errors.Join(err, g.dir.Remove(path))
	}
	return nil
}
