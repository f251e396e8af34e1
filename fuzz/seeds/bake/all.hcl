variable "X" {
  default = null
}
variable "N" {
  default = 12
}
variable "LIST" {
  type = list(string)
  default = ["a", "b"]
}
variable "REG" {
  default = "registry.lan/${N}"
}
function "tag" {
  params = [name]
  variadic_params = more
  result = [for m in concat(["latest"], more): "${REG}/${name}:${m}"]
}
group "default" {
  description = "all of it"
  targets = ["a", "b"]
}
group "all" {
  targets = ["default", "c"]
}
target "a" {
  tags = concat(tag("x", N), ["x:12", "x:12"])
  args = {
    A = null
    B = X
    C = "<${N}> & $${x} %%{y}"
    D = 1.5
    E = true
    L = join(",", [for s in LIST : upper(s) if s != "z"])
    T = N > 10 ? "big" : "small"
    S = [{ n = "1" }, { n = "2" }][*].n[1]
    F = format("%05.1f|%-4s|%q", 3.14159, "ab", "q")
    R = regex_replace("v1.2", "v(\\d)\\.(\\d)", "$1-$2")
    J = jsonencode({ a = [1, "x", null, true] })
    P = target.c.labels.l
    Q = target.a.network
    M = timeadd("2020-01-01T00:00:00Z", "36h")
    H = sha256("x")
    I = semvercmp("1.2.3", ">= 1.2, < 2") ? "y" : "n"
    DIV = 10 / 4
    BIG = 12345678901234567890
  }
  attest = ["type=sbom", { type = "provenance", mode = "max" }, "type=sbom,disabled=true"]
  output = ["type=image,push=true", { type = "local", dest = "out" }, "out2", "type=image,push=true"]
  cache-from = ["a,b", "type=local,src=x", { type = "registry", ref = "r" }, "type=local,src=x"]
  cache-to = ["type=inline"]
  secret = ["id=a,src=b", { id = "c", env = "D" }, "type=env,id=e,src=HOME"]
  ssh = [{ id = "k", paths = ["key"] }]
  platforms = ["linux/amd64", "linux/amd64"]
  no-cache = true
  pull = false
  network = "host"
  shm-size = 12
  ulimits = ["nofile=1:2"]
  extra-hosts = { h = "1.2.3.4" }
  contexts = { x = "target:c", y = "", z = "./dir/../z" }
  annotations = ["a=b"]
  resources = { memory = "1g", cpu-shares = 2 }
  call = "check"
  no-cache-filter = ["s", "s"]
  entitlements = ["security.insecure"]
  dockerfile-inline = <<EOT
FROM x
  RUN ${N} $${y}
EOT
}
target "b" {
  matrix = {
    v = ["1", "2"]
    w = [{ k = "x" }]
  }
  name = "b-${v}-${w.k}"
  inherits = ["c", "_base"]
  context = "./b/."
  dockerfile = "D.${v}"
  args = {
    V = v
  }
  description = "d"
  cache-from = ["y"]
}
target "_base" {
  args = { V = "base", W = BAKE_LOCAL_PLATFORM }
  labels = { l = "base", m = "2" }
  cache-from = ["x"]
  target = "t"
  context = BAKE_CMD_CONTEXT
}
target "c" {
  labels = {
    l = 1
  }
  platforms = ["linux/amd64"]
}
