package main

import (
	"fmt"

	"github.com/spf13/pflag"

	"stemma/pageserver"
)

// encryptionFlags say how stemma serve encrypts objects.
type encryptionFlags struct {
	all                    bool
	kmsKeyFile, defaultKey string
}

func (f *encryptionFlags) add(fl *pflag.FlagSet) {
	fl.BoolVar(&f.all, "encrypt", false, "encrypt (SSE-S3) what neither the request nor the bucket says otherwise of")
	fl.StringVar(&f.kmsKeyFile, "kms-key-file", "", "file of the keys of SSE-KMS, name:base64 of 32 bytes a line (default: any key id is that of a key, which depends on the master key)")
	fl.StringVar(&f.defaultKey, "kms-default-key", "", "key of SSE-KMS when a request names none (default: that is refused)")
}

// apply puts what the flags say into o.
func (f *encryptionFlags) apply(o *pageserver.Options) error {
	o.Object.EncryptAll, o.Object.DefaultKMSKey = f.all, f.defaultKey
	if f.kmsKeyFile == "" {
		return nil
	}
	ring, err := readMasterKeys(f.kmsKeyFile)
	if err != nil {
		return fmt.Errorf("keys of SSE-KMS: %w", err)
	}
	o.Object.KMSKeys = ring
	return nil
}
