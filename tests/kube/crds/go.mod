// Where the Gateway API's own definitions are: tests/tests/crds.rs has the Go command fetch this module, checked
// by go.sum, and reads config/crd in it. There is no Go code here.
module gateway.yett.dev/tests/crds

go 1.27.0

require sigs.k8s.io/gateway-api v1.7.0
