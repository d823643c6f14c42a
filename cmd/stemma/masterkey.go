package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"stemma/pageserver/keyring"
)

const (
	// masterKeyVar may hold the master keys themselves, as keyring.Parse takes them.
	masterKeyVar = "STEMMA_MASTER_KEY"
	// masterKeyFile is the file of generated master keys in the data directory.
	masterKeyFile = "master.keys"
	// maxMasterKeyBytes bounds a file of master keys.
	maxMasterKeyBytes = 256 << 10
)

// masterKeys returns the keys that seal the store's secrets: from the environment,
// else from the file named, which must be there, else from the data directory,
// where a new key is stored, readable by its owner only, if there is none.
func masterKeys(dir, file string, lookup func(string) (string, bool)) (*keyring.Ring, error) {
	if text, _ := lookup(masterKeyVar); text != "" {
		ring, err := keyring.Parse(text)
		if err != nil {
			return nil, usagef("%s: %w", masterKeyVar, err)
		}
		return ring, nil
	}
	if file != "" {
		return readMasterKeys(file)
	}
	path := filepath.Join(dir, masterKeyFile)
	ring, err := readMasterKeys(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return ring, err
	}
	text := "# Master keys of this store. Without them its users' keys and encrypted objects are lost: keep a copy elsewhere.\n" +
		"# The first one seals; put a new one in front of it to rotate.\n" + keyring.NewKey("k1").String() + "\n"
	if err := storeSecret(path, text); err != nil && !errors.Is(err, fs.ErrExist) { // another process may be faster
		return nil, fmt.Errorf("store master key: %w", err)
	}
	return readMasterKeys(path)
}

// readMasterKeys reads a file. Errors wrap fs.ErrNotExist when there is none.
func readMasterKeys(path string) (*keyring.Ring, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read master keys: %w", err)
	}
	defer f.Close()
	p, err := io.ReadAll(io.LimitReader(f, maxMasterKeyBytes+1))
	if err != nil {
		return nil, fmt.Errorf("read master keys: %w", err)
	}
	ring, err := keyring.Parse(string(p))
	if err != nil {
		return nil, fmt.Errorf("read master keys from %s: %w", path, err)
	}
	return ring, nil
}
