package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"stemma/pageserver/auth"
)

// credentialsFile is the file of generated root keys in the data directory. It
// has the form of an AWS shared credentials file, so that AWS_SHARED_CREDENTIALS_FILE
// can point any AWS tool at it:
//
//	[default]
//	aws_access_key_id = STM...
//	aws_secret_access_key = ...
const credentialsFile = "credentials"

// maxCredentialsBytes bounds the credentials file.
const maxCredentialsBytes = 64 << 10

// rootVars are the variables that may hold the root keys, the preferred pair first.
var rootVars = [...][2]string{
	{"STEMMA_ROOT_ACCESS_KEY", "STEMMA_ROOT_SECRET_KEY"},
	{"MINIO_ROOT_USER", "MINIO_ROOT_PASSWORD"},
}

// keysFromEnv returns the first pair of vars that is set. Half a pair is a
// usage error.
func keysFromEnv(lookup func(string) (string, bool), vars ...[2]string) (auth.Key, bool, error) {
	for _, v := range vars {
		access, _ := lookup(v[0])
		secret, _ := lookup(v[1])
		switch {
		case access != "" && secret != "":
			return auth.Key{ID: access, Secret: secret, Root: true}, true, nil
		case access != "":
			return auth.Key{}, false, usagef("%s is set and %s is not: set both or neither", v[0], v[1])
		case secret != "":
			return auth.Key{}, false, usagef("%s is set and %s is not: set both or neither", v[1], v[0])
		}
	}
	return auth.Key{}, false, nil
}

// rootKeys returns the root keys of the server: from the environment, else
// from the data directory, else new ones, which are stored there and, once
// they are on stable storage, shown on announce. The data directory is made.
func rootKeys(dir string, lookup func(string) (string, bool), announce io.Writer) (auth.Key, error) {
	k, ok, err := keysFromEnv(lookup, rootVars[:]...)
	if err != nil {
		return auth.Key{}, err
	}
	if ok {
		if err := k.Validate(); err != nil {
			return auth.Key{}, &usageError{err}
		}
		return k, nil
	}
	path := filepath.Join(dir, credentialsFile)
	if k, err = readKeys(path); !errors.Is(err, fs.ErrNotExist) {
		return k, err
	}
	k = auth.NewRootKey()
	err = storeKeys(path, k)
	if errors.Is(err, fs.ErrExist) { // another process was faster
		return readKeys(path)
	}
	if err != nil {
		return auth.Key{}, fmt.Errorf("store root keys: %w", err)
	}
	fmt.Fprintf(announce, "Root keys made and stored in %s. They are shown only this once:\n\n"+
		"export AWS_ACCESS_KEY_ID=%s\nexport AWS_SECRET_ACCESS_KEY=%s\n\n", path, k.ID, k.Secret)
	return k, nil
}

// readKeys reads a credentials file. Errors wrap fs.ErrNotExist when there is none.
func readKeys(path string) (auth.Key, error) {
	f, err := os.Open(path)
	if err != nil {
		return auth.Key{}, fmt.Errorf("read root keys: %w", err)
	}
	defer f.Close()
	p, err := io.ReadAll(io.LimitReader(f, maxCredentialsBytes))
	if err != nil {
		return auth.Key{}, fmt.Errorf("read root keys: %w", err)
	}
	k := auth.Key{Root: true}
	lines := bufio.NewScanner(bytes.NewReader(p))
	for lines.Scan() {
		name, value, _ := strings.Cut(lines.Text(), "=")
		switch strings.TrimSpace(name) {
		case "aws_access_key_id":
			k.ID = strings.TrimSpace(value)
		case "aws_secret_access_key":
			k.Secret = strings.TrimSpace(value)
		}
	}
	if err := errors.Join(lines.Err(), k.Validate()); err != nil {
		return auth.Key{}, fmt.Errorf("read root keys from %s: %w", path, err)
	}
	return k, nil
}

// storeKeys writes a new credentials file; see storeSecret.
func storeKeys(path string, k auth.Key) error {
	return storeSecret(path, fmt.Sprintf("[default]\naws_access_key_id = %s\naws_secret_access_key = %s\n", k.ID, k.Secret))
}

// storeSecret writes a new file, readable by its owner only, and syncs it. Its
// folder is made. The file appears whole or not at all; one that is there already
// stays, and the error wraps fs.ErrExist.
func storeSecret(path, text string) (err error) {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	tmp, err := os.CreateTemp(dir, filepath.Base(path)+".tmp*") // mode 0600
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.Remove(tmp.Name())) }()
	_, err = io.WriteString(tmp, text)
	if err = errors.Join(err, tmp.Sync(), tmp.Close()); err != nil {
		return err
	}
	if err := os.Link(tmp.Name(), path); err != nil {
		return err
	}
	return syncDir(dir)
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
