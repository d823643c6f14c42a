package object

import "slices"

// Logging says where the requests to a bucket are recorded, as S3's document has
// it. Without Enabled they are not.
type Logging struct {
	Enabled *LoggingEnabled `xml:"LoggingEnabled" json:",omitempty"`
}

// LoggingEnabled is where the records go.
type LoggingEnabled struct {
	TargetBucket *string       `xml:"TargetBucket"`
	TargetPrefix *string       `xml:"TargetPrefix"`
	KeyFormat    *LogKeyFormat `xml:"TargetObjectKeyFormat" json:",omitempty"`
	Grants       *LogGrants    `xml:"TargetGrants" json:"-"` // as a request has them
	// ACL are the grants, but for those to the owner of the records, who may do everything with them.
	ACL ACL `xml:"-" json:"acl,omitempty"`
}

// LogGrants are whom the ACL of the records is to grant something.
type LogGrants struct {
	Grants []LogGrant `xml:"Grant"`
}

// LogGrant is one of them.
type LogGrant struct {
	Grantee *struct {
		ID, DisplayName, EmailAddress, URI *string
	} `xml:"Grantee"`
	Permission *string `xml:"Permission"`
}

// LogKeyFormat is how objects of records are named. Exactly one field is set.
type LogKeyFormat struct {
	Simple      *struct{}        `xml:"SimplePrefix" json:",omitempty"`
	Partitioned *PartitionedKeys `xml:"PartitionedPrefix" json:",omitempty"`
}

// PartitionedKeys are names with the source and the date in them.
type PartitionedKeys struct {
	DateSource *string `xml:"PartitionDateSource"` // EventTime or DeliveryTime
}

// logPermissions are what can be granted.
var logPermissions = []string{"FULL_CONTROL", "READ", "WRITE"}

// maxLogPrefixBytes leaves room for what a key of records has behind the prefix.
const maxLogPrefixBytes = 800

// Check refuses what S3 refuses, and what is not there; whether the target bucket exists
// it does not know. Errors: *RuleError.
func (l *Logging) Check() error {
	e := l.Enabled
	if e == nil {
		return nil
	}
	if e.TargetBucket == nil || e.TargetPrefix == nil {
		return malformed
	}
	if len(*e.TargetPrefix) > maxLogPrefixBytes {
		return invalidArgument("The target prefix of logging is too long: at most %d bytes", maxLogPrefixBytes)
	}
	if f := e.KeyFormat; f != nil {
		if count(f.Simple != nil, f.Partitioned != nil) != 1 {
			return malformed
		}
		if p := f.Partitioned; p != nil && (p.DateSource == nil || *p.DateSource != "EventTime" && *p.DateSource != "DeliveryTime") {
			return malformed
		}
	}
	if e.Grants == nil {
		return nil
	}
	for _, g := range e.Grants.Grants {
		if g.Grantee == nil || g.Permission == nil || !slices.Contains(logPermissions, *g.Permission) {
			return malformed
		}
	}
	return nil
}
