package policy

import (
	"net/netip"
	"strings"
)

// fixingKeys are condition keys that hold a statement to known requests when they
// must equal fixed values, as S3 defines a public policy.
var fixingKeys = map[string]bool{
	"aws:sourcearn": true, "aws:sourcevpc": true, "aws:sourcevpce": true, "aws:sourceowner": true, "aws:sourceaccount": true,
	"aws:userid": true, "aws:username": true, "aws:principalarn": true, "aws:principalorgid": true, "aws:principalaccount": true,
	"s3:x-amz-server-side-encryption-aws-kms-key-id": true, "s3:dataaccesspointarn": true, "s3:dataaccesspointaccount": true,
}

// public reports whether the statement lets everybody do something.
func (s *statement) public() bool {
	if s.effect != Allow || s.principals == nil || !s.principals.all {
		return false
	}
	for i := range s.conditions {
		if s.conditions[i].fixes() {
			return false
		}
	}
	return true
}

// fixes reports whether a condition holds a statement to fixed values.
func (c *condition) fixes() bool {
	if c.op.negated || c.op.null || c.ifExists || c.all {
		return false
	}
	if c.key == "aws:sourceip" && c.op.name == "IpAddress" {
		for i := range c.values {
			if wide(c.values[i].prefix) {
				return false
			}
		}
		return true
	}
	if !fixingKeys[c.key] || !(strings.HasPrefix(c.op.name, "String") || strings.HasPrefix(c.op.name, "Arn")) {
		return false
	}
	for i := range c.values {
		for _, p := range c.values[i].pattern.parts {
			if p.kind != literal {
				return false
			}
		}
	}
	return true
}

// wide reports whether a range of addresses is too large to be somebody's.
func wide(p netip.Prefix) bool {
	if p.Addr().Is4() {
		return p.Bits() < 8
	}
	return p.Bits() < 32
}
