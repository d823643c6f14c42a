package object

// Encryption is how objects of a bucket are encrypted when a request does not say,
// as S3's document has it.
type Encryption struct {
	Rules []EncryptionRule `xml:"Rule"`
}

// EncryptionRule is the one rule of an Encryption.
type EncryptionRule struct {
	Default          *EncryptionDefault `xml:"ApplyServerSideEncryptionByDefault" json:",omitempty"`
	BucketKeyEnabled *bool              `xml:"BucketKeyEnabled" json:",omitempty"`
}

// EncryptionDefault is what is applied by default.
type EncryptionDefault struct {
	Algorithm string  `xml:"SSEAlgorithm"` // AES256 or aws:kms
	KeyID     *string `xml:"KMSMasterKeyID" json:",omitempty"`
}

// Check refuses what S3 refuses, and what is not there. Errors: *RuleError.
func (c *Encryption) Check() error {
	if len(c.Rules) != 1 || c.Rules[0].Default == nil {
		return malformed
	}
	switch d := c.Rules[0].Default; {
	case d.Algorithm == "aws:kms:dsse":
		return &RuleError{"NotImplemented", "Encryption in two layers, aws:kms:dsse, is not implemented"}
	case d.Algorithm != "AES256" && d.Algorithm != "aws:kms":
		return malformed
	case d.KeyID != nil && (*d.KeyID == "" || len(*d.KeyID) > 2048):
		return invalidArgument("Invalid KMSMasterKeyID")
	case d.KeyID != nil && d.Algorithm != "aws:kms":
		return invalidArgument("a KMSMasterKeyID is not applicable if the default sse algorithm is not aws:kms or aws:kms:dsse")
	}
	return nil
}

// sse returns what the document says of a body.
func (c *Encryption) sse() SSE {
	if len(c.Rules) == 0 || c.Rules[0].Default == nil {
		return SSE{}
	}
	d := c.Rules[0].Default
	if d.Algorithm == SSES3.String() {
		return SSE{Kind: SSES3}
	}
	want := SSE{Kind: SSEKMS}
	if d.KeyID != nil {
		want.KeyID = *d.KeyID
	}
	if k := c.Rules[0].BucketKeyEnabled; k != nil {
		want.BucketKey = *k
	}
	return want
}
