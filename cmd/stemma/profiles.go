package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// profile is one server and who talks to it, of the file of profiles: a JSON object of them by name.
type profile struct {
	Endpoint      string `json:"endpoint"`
	AdminEndpoint string `json:"admin_endpoint"`
	AccessKey     string `json:"access_key"`
	SecretKey     string `json:"secret_key"`
	Region        string `json:"region"`
}

// maxProfilesBytes bounds the file of profiles.
const maxProfilesBytes = 1 << 20

// profilesFile is STEMMA_PROFILES, else stemma/profiles.json in the user's configuration directory.
func profilesFile() (string, error) {
	if path := os.Getenv("STEMMA_PROFILES"); path != "" {
		return path, nil
	}
	dir, err := os.UserConfigDir()
	if err != nil {
		return "", err
	}
	return filepath.Join(dir, "stemma", "profiles.json"), nil
}

// readProfile returns a profile by its name.
func readProfile(name string) (*profile, error) {
	path, err := profilesFile()
	if err != nil {
		return nil, err
	}
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, usagef("--profile %s: there is no %s", name, path)
	} else if err != nil {
		return nil, err
	}
	if info.Size() > maxProfilesBytes {
		return nil, usagef("%s is longer than %d bytes", path, maxProfilesBytes)
	}
	p, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	all := map[string]*profile{}
	if err := json.Unmarshal(p, &all); err != nil {
		return nil, usagef("%s: %w", path, err)
	}
	if all[name] == nil {
		return nil, usagef("--profile %s: %s has no such profile", name, path)
	}
	return all[name], nil
}

// endpoint returns an address: that of the flag, unless it has its default and the profile has one.
func (f *credentialFlags) endpoint(value, otherwise string, admin bool) (string, error) {
	if f.profile == "" || value != otherwise {
		return value, nil
	}
	p, err := readProfile(f.profile)
	if err != nil {
		return "", err
	}
	of := p.Endpoint
	if admin {
		of = p.AdminEndpoint
	}
	if of == "" {
		return "", fmt.Errorf("profile %s has no address for this", f.profile)
	}
	return of, nil
}
