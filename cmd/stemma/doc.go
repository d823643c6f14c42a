// Command stemma is the object store whose buckets can be forked like code.
//
//	stemma serve     run the server
//	stemma bucket    create, list, delete, undelete and retain buckets of a running server
//	stemma fork      fork a bucket of a running server
//	stemma ls        list a bucket, now or at an earlier time
//	stemma cat       write an object to standard output, now or at an earlier time
//	stemma get       copy a bucket or a prefix to a directory, now or at an earlier time
//	stemma usage     show what the store holds, and for which bucket
//	stemma gc        give back what nobody can read, or say what that would be
//	stemma bench     measure a server, or what this machine can do
//	stemma tool      look into the files of a stopped store
//	stemma version   say what this binary is
//
// Every flag can be given as an environment variable: --admin-listen is
// STEMMA_ADMIN_LISTEN. A flag on the command line wins.
//
// Exit codes: 0 all went well; 1 it did not, one line on standard error says
// why; 2 the command line or the environment is wrong and nothing was done.
package main
