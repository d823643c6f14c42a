package identity

import "stemma/pageserver/auth"

// canned are the policies that come with the server. All but admin speak of the
// user's own buckets and of the root's.
var canned = map[string]struct {
	document string
	reach    auth.Reach
}{
	"readwrite": {`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["s3:*","stemma:*"],"Resource":"*"}]}`, auth.ReachRoot},
	"readonly": {`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["s3:Get*","s3:List*","stemma:Get*","stemma:List*",` +
		`"stemma:ReadPast","stemma:DiffBucket","stemma:WatchBucket"],"Resource":"*"}]}`, auth.ReachRoot},
	"writeonly": {`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["s3:PutObject","s3:AbortMultipartUpload",` +
		`"s3:ListMultipartUploadParts","s3:ListBucketMultipartUploads"],"Resource":"*"}]}`, auth.ReachRoot},
	"admin": {`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}`, auth.ReachAll},
}

// aliases are the names that AWS has for canned policies.
var aliases = map[string]string{
	"AmazonS3FullAccess": "readwrite", "AmazonS3ReadOnlyAccess": "readonly", "AdministratorAccess": "admin",
}
