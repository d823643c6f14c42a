package s3api

// There is one account, which owns everything.
const (
	ownerID      = "73746d61000000000000000000000000000000000000000000000000000000aa"
	ownerName    = "stemma"
	ownerAccount = "000000000000"

	defaultRegion = "us-east-1"
)

// OwnerAccount is the number of the account that owns everything.
const OwnerAccount = ownerAccount
