package main

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"stemma/pageserver/keyring"
)

func noVars(string) (string, bool) { return "", false }

func TestMasterKeyIsMadeOnce(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	first, err := masterKeys(dir, "", noVars)
	if err != nil {
		t.Fatal(err)
	}
	again, err := masterKeys(dir, "", noVars)
	if err != nil {
		t.Fatal(err)
	}
	if p, err := again.Open("c", first.Seal("c", []byte("x"))); err != nil || !bytes.Equal(p, []byte("x")) {
		t.Errorf("opened %q, %v", p, err)
	}
	info, err := os.Stat(filepath.Join(dir, masterKeyFile))
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v", info.Mode())
	}
}

func TestMasterKeyFromElsewhere(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "elsewhere")
	if _, err := masterKeys(dir, file, noVars); err == nil {
		t.Error("a file that is named must be there")
	}
	if err := os.WriteFile(file, []byte(keyring.NewKey("of-file").String()), 0o600); err != nil {
		t.Fatal(err)
	}
	ring, err := masterKeys(dir, file, noVars)
	if err != nil || ring.Names()[0] != "of-file" {
		t.Errorf("%v, %v", ring, err)
	}
	set := func(value string) func(string) (string, bool) {
		return func(name string) (string, bool) { return value, name == masterKeyVar }
	}
	ring, err = masterKeys(dir, file, set(keyring.NewKey("of-env").String()))
	if err != nil || ring.Names()[0] != "of-env" {
		t.Errorf("%v, %v", ring, err)
	}
	if _, err := masterKeys(dir, file, set("x")); err == nil {
		t.Error("a bad variable passed")
	}
	if _, err := os.Stat(filepath.Join(dir, masterKeyFile)); err == nil {
		t.Error("a key was made in the data directory")
	}
}
