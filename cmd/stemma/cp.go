package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"mime"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/minio/minio-go/v7"
	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"
)

func newCp() *cobra.Command {
	var f clientFlags
	var at atFlag
	var recursive, quiet bool
	cmd := &cobra.Command{
		Use:   "cp SOURCE TARGET",
		Short: "Copy files to a bucket, objects to files, or objects to objects",
		Long: "What begins with s3:// is in a bucket: s3://BUCKET/KEY. - is standard input or output. With -r a directory is\n" +
			"copied under a prefix, or all that begins with a prefix into a directory. --at reads the source as it was.\n" +
			"Objects are copied to objects by the server, which moves no bytes.",
		Args: exactArgs("SOURCE", "TARGET"),
		RunE: func(cmd *cobra.Command, args []string) error {
			c := copier{cmd: cmd, f: &f, at: &at, bar: newBar(cmd, quiet)}
			err := c.run(cmd.Context(), args[0], args[1], recursive)
			if berr := c.bar.Finish(); err == nil {
				err = berr
			}
			if err != nil {
				return fmt.Errorf("cp: %w", err)
			}
			return nil
		},
	}
	f.add(cmd)
	at.add(cmd, "read the source as it was")
	cmd.Flags().BoolVarP(&recursive, "recursive", "r", false, "copy a directory, or all that begins with a prefix")
	cmd.Flags().BoolVarP(&quiet, "quiet", "q", false, "show no progress")
	return cmd
}

// newBar returns a bar of bytes on standard error, which is not shown unless that is a terminal.
func newBar(cmd *cobra.Command, quiet bool) *progressbar.ProgressBar {
	file, ok := cmd.ErrOrStderr().(*os.File)
	if ok {
		info, err := file.Stat()
		ok = err == nil && info.Mode()&os.ModeCharDevice != 0
	}
	return progressbar.NewOptions64(-1, progressbar.OptionSetWriter(cmd.ErrOrStderr()), progressbar.OptionSetVisibility(ok && !quiet),
		progressbar.OptionShowBytes(true), progressbar.OptionShowCount(), progressbar.OptionClearOnFinish(), progressbar.OptionThrottle(100_000_000))
}

// copier is one cp.
type copier struct {
	cmd *cobra.Command
	f   *clientFlags
	at  *atFlag
	bar *progressbar.ProgressBar
}

// remote takes s3://BUCKET/KEY apart; false: it is a file.
func remote(s string) (bucket, key string, is bool, err error) {
	if !strings.HasPrefix(s, "s3://") {
		return "", "", false, nil
	}
	bucket, key, err = splitPath(s)
	return bucket, key, true, err
}

func (c *copier) run(ctx context.Context, from, to string, recursive bool) error {
	_, key, fromBucket, err := remote(from)
	if err != nil {
		return err
	}
	bucket, toKey, toBucket, err := remote(to)
	switch {
	case err != nil:
		return err
	case !fromBucket && !toBucket:
		return usagef("one of %q and %q must be s3://BUCKET/KEY", from, to)
	case !fromBucket && c.at.value != "":
		return usagef("--at is for a source in a bucket")
	case fromBucket && toBucket && recursive:
		return usagef("a prefix is copied within the server by stemma fork, cherry-pick or commit")
	case fromBucket && !recursive && key == "":
		return usagef("%q: want s3://BUCKET/KEY, or -r", from)
	}
	client, err := c.f.s3()
	if err != nil {
		return err
	}
	switch {
	case fromBucket && toBucket:
		return c.within(ctx, client, from, bucket, toKey)
	case fromBucket:
		return c.fetch(ctx, from, to, recursive)
	case recursive:
		return c.storeAll(ctx, client, from, bucket, toKey)
	}
	if toKey == "" || strings.HasSuffix(toKey, "/") {
		toKey += filepath.Base(from)
	}
	return c.store(ctx, client, from, bucket, toKey)
}

// within has the server copy an object.
func (c *copier) within(ctx context.Context, client *minio.Core, from, bucket, key string) error {
	t, err := c.f.open(from, c.at)
	if err != nil {
		return err
	}
	if key == "" || strings.HasSuffix(key, "/") {
		key += path.Base(t.key)
	}
	header := map[string]string{"x-amz-copy-source": (&url.URL{Path: t.bucket + "/" + t.key}).EscapedPath()}
	if t.at != "" {
		header["x-stemma-copy-source-at"] = t.at
	}
	_, err = client.CopyObject(ctx, t.bucket, t.key, bucket, key, header, minio.CopySrcOptions{}, minio.PutObjectOptions{})
	return err
}

// fetch writes objects to files.
func (c *copier) fetch(ctx context.Context, from, to string, recursive bool) error {
	t, err := c.f.open(from, c.at)
	if err != nil {
		return err
	}
	t.bar = c.bar
	if recursive {
		g := getter{target: t}
		_, err := g.run(ctx, to)
		return err
	}
	if to == "-" {
		return t.fetch(ctx, t.key, c.cmd.OutOrStdout())
	}
	if info, err := os.Stat(to); err == nil && info.IsDir() {
		to = filepath.Join(to, path.Base(t.key))
	}
	file, err := os.Create(to)
	if err != nil {
		return err
	}
	if err := errors.Join(t.fetch(ctx, t.key, file), file.Close()); err != nil {
		return errors.Join(err, os.Remove(to))
	}
	return nil
}

// store writes a file, or standard input, to an object.
func (c *copier) store(ctx context.Context, client *minio.Core, from, bucket, key string) error {
	body, size := c.cmd.InOrStdin(), int64(-1)
	if from != "-" {
		file, err := os.Open(from)
		if err != nil {
			return err
		}
		defer file.Close()
		info, err := file.Stat()
		if err != nil {
			return err
		}
		if info.IsDir() {
			return usagef("%s is a directory: -r copies it", from)
		}
		body, size = file, info.Size()
	}
	o := minio.PutObjectOptions{ContentType: mime.TypeByExtension(filepath.Ext(key))}
	if size < 0 {
		o.PartSize = 16 << 20
	}
	_, err := client.Client.PutObject(ctx, bucket, key, io.TeeReader(body, c.bar), size, o)
	return err
}

// storeAll writes the files of a directory under a prefix.
func (c *copier) storeAll(ctx context.Context, client *minio.Core, dir, bucket, prefix string) error {
	if prefix != "" && !strings.HasSuffix(prefix, "/") {
		prefix += "/"
	}
	return filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		rel, err := filepath.Rel(dir, name)
		if err != nil {
			return err
		}
		return c.store(ctx, client, name, bucket, prefix+filepath.ToSlash(rel))
	})
}
