package object

// RequestPayment says who pays for requests to a bucket, as S3's document has it.
type RequestPayment struct {
	Payer string `xml:"Payer"` // BucketOwner or Requester
}

// Check refuses what S3 refuses. Errors: *RuleError.
func (p *RequestPayment) Check() error {
	if p.Payer != "BucketOwner" && p.Payer != "Requester" {
		return malformed
	}
	return nil
}

// RequesterPays reports whether whoever is not the owner must say that he pays.
func (s *Settings) RequesterPays() bool {
	return s.Payment != nil && s.Payment.Payer == "Requester"
}

// Acceleration is the state of transfer acceleration, as S3's document has it.
type Acceleration struct {
	Status string `xml:"Status,omitempty"`
}

// Check refuses what S3 refuses, and to enable what is not there. Errors: *RuleError.
func (a *Acceleration) Check() error {
	switch a.Status {
	case "Suspended":
		return nil
	case "Enabled":
		return &RuleError{"NotImplemented", "There are no endpoints that accelerate transfers"}
	}
	return malformed
}
