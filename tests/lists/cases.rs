//! Lists, a line each: those that are refused, with the place and what is said there, and those
//! that are fine.

/// A text that is no list.
pub(crate) struct Malformed {
    pub(crate) name: &'static str,
    pub(crate) text: Vec<u8>,
    /// `line:column` of the error.
    pub(crate) place: &'static str,
    /// A part of what is said there.
    pub(crate) message: &'static str,
    /// The schema can't express what is wrong.
    pub(crate) schema_accepts: bool,
}

impl Malformed {
    fn schema_accepts(self) -> Self {
        Self {
            schema_accepts: true,
            ..self
        }
    }
}

/// A whole file.
fn file(
    name: &'static str,
    text: impl Into<Vec<u8>>,
    place: &'static str,
    message: &'static str,
) -> Malformed {
    Malformed {
        name,
        text: text.into(),
        place,
        message,
        schema_accepts: false,
    }
}

/// Keys at the top, from line 3 on, of a list that is fine but for them.
fn top(name: &'static str, keys: &str, place: &'static str, message: &'static str) -> Malformed {
    let text = format!("version = 1\nallow-nothing = true\n{keys}\n");
    file(name, text, place, message)
}

/// Keys of a rule, from line 4 on, which is fine but for them.
fn key(name: &'static str, keys: &str, place: &'static str, message: &'static str) -> Malformed {
    let text = format!("version = 1\n[[allow]]\ncontainer = \"web\"\n{keys}\n");
    file(name, text, place, message)
}

/// A rule without a key of its own, from line 3 on.
fn rule(name: &'static str, keys: &str, place: &'static str, message: &'static str) -> Malformed {
    let text = format!("version = 1\n[[allow]]\n{keys}\n");
    file(name, text, place, message)
}

/// The malformed ones.
#[rustfmt::skip]
pub(crate) fn malformed() -> Vec<Malformed> {
    const TIME: &str = "with its offset";
    let long = "a".repeat(129);
    vec![
        // Nothing, or not all of it.
        file("empty", "", "1:1", "`version` is missing"),
        file("white space", " \n\n\t\n", "1:1", "`version` is missing"),
        file("only a comment", "# version = 1", "1:1", "`version` is missing"),
        file("no rules", "version = 1\n", "1:1", "the list has no `[[allow]]` rule"),
        file("an empty list of rules", "version = 1\nallow = []\n", "1:1", "the list has no `[[allow]]` rule"),
        file("nothing allowed by half", "version = 1\nallow-nothing = false\n", "1:1", "or `allow-nothing = true`"),
        file("no version", "[[allow]]\nimage = \"a\"\n", "1:1", "`version` is missing"),
        file("no version, nothing allowed", "allow-nothing = true\n", "1:1", "`version` is missing"),
        file("an empty rule", "version = 1\n[[allow]]\n", "2:1", "a rule names at least one of"),

        // Not a text.
        file("binary", [0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0xff, 0xfe], "1:9", "not UTF-8"),
        file("Latin-1", b"version = 1\n# \xfcbung\nallow-nothing = true\n", "2:3", "not UTF-8"),
        file("UTF-16", b"\xff\xfev\0e\0r\0", "1:1", "not UTF-8"),
        file("UTF-8 cut within a character", b"version = 1\nallow-nothing = true # \xc3", "2:24", "not UTF-8"),
        file("a surrogate", b"version = 1\nmode = \"\xed\xa0\x80\"\n", "2:9", "not UTF-8"),
        file("only NUL", vec![0; 4096], "1:1", "invalid"),
        top("NUL in a text", "mode = \"a\0\"", "3:10", "invalid"),
        top("NUL at the end", "\0", "3:1", "invalid"),
        top("an escape of no character", "mode = \"\\ud800\"", "3:11", "expected unicode hexadecimal"),
        top("a steering sequence", "mode = \"\u{1b}[31m\"", "3:9", "invalid"),
        file("two byte order marks", "\u{feff}\u{feff}version = 1\nallow-nothing = true\n", "1:1", "invalid unquoted key"),
        file("an error behind a byte order mark", "\u{feff}version = 2\nallow-nothing = true\n", "1:11", "version 2"),
        file("an error behind CRLF", "version = 1\r\nallow-nothing = true\r\nmode = 5\r\n", "3:8", "`mode` can't be of type integer"),
        file("only carriage returns", "version = 1\rallow-nothing = true\r", "1:13", "carriage return"),
        file("larger than any list", vec![b'#'; 16 * 1024 * 1024 + 1], "1:1", "larger than"),

        // Not TOML.
        top("a word", "audit", "3:6", "key with no value"),
        top("no value", "mode =", "3:7", "string values must be quoted"),
        top("no key", "= \"audit\"", "3:1", "keys cannot be empty"),
        top("a bare word as a value", "mode = audit", "3:8", "string values must be quoted"),
        top("a text that does not end", "mode = \"audit", "3:14", "invalid basic string"),
        top("a text over two lines", "mode = \"au\ndit\"", "3:11", "invalid basic string"),
        top("an unknown escape", "mode = \"\\q\"", "3:10", "missing escaped value"),
        top("two values", "mode = \"audit\" \"kill\"", "3:16", "unexpected key or value"),
        top("JSON", "{ \"mode\": \"audit\" }", "3:1", "invalid key-value pair"),
        top("YAML", "mode: audit", "3:5", "invalid unquoted key"),
        top("a table that does not end", "[defaults", "3:10", "unclosed table"),
        top("a rule's header by half", "[[allow]", "3:9", "unclosed array table"),
        top("a leading zero", "mode = 01", "3:8", "unexpected leading zero"),
        top("an impossible day", "audit-until = 2027-02-30T00:00:00Z", "3:15", "invalid date"),
        top("an impossible hour", "audit-until = 2027-02-03T25:00:00Z", "3:15", "invalid time"),
        rule("a list that does not end", "image = [\"a\", \"b\"", "3:18", "unclosed array"),
        rule("a text for an image that does not end", "image = \"a", "3:11", "invalid basic string"),
        rule("an inline table that does not end", "labels = { a = \"b\"", "3:19", "unclosed inline table"),
        rule("two commas", "image = [\"a\",, \"b\"]", "3:14", "extra comma in array"),
        file("brackets without end", format!("version = 1\nallow = {}", "[".repeat(100_000)), "2:89", "max recursion depth"),
        file("brackets that close again", format!("version = 1\nallow = {}{}\n", "[".repeat(5_000), "]".repeat(5_000)), "2:89", "max recursion depth"),
        file("tables in tables", format!("version = 1\nallow = {}1{}\n", "{ a = ".repeat(5_000), "}".repeat(5_000)), "2:489", "max recursion depth"),
        // The only error of which its reader does not tell the place.
        file("a deep key", format!("version = 1\n{}a = 1\n", "a.".repeat(5_000)), "1:1", "recursion limit"),

        // Keys.
        top("an unknown key", "allwo = 1", "3:1", "unknown key `allwo`"),
        top("a key of a rule", "image = \"nginx\"", "3:1", "unknown key `image`"),
        top("a key in upper case", "Mode = \"audit\"", "3:1", "unknown key `Mode`"),
        top("a key with an underscore", "stop_timeout = \"5s\"", "3:1", "unknown key `stop_timeout`"),
        top("an empty key", "\"\" = 1", "3:1", "unknown key ``"),
        top("an unknown table", "[rules]\nimage = \"a\"", "3:2", "unknown key `rules`"),
        top("a key that steers", "\"\\u001b[31m\" = 1", "3:1", "unknown key"),
        top("a key twice", "mode = \"audit\"\nmode = \"audit\"", "4:1", "duplicate key"),
        top("a key twice, once in quotes", "mode = \"audit\"\n\"mode\" = \"audit\"", "4:1", "duplicate key"),
        top("a table twice", "[defaults]\n[defaults]", "4:2", "duplicate key"),
        top("a guard that is no table", "guard = true", "3:9", "`guard` can't be of type boolean"),
        top("an unknown key of guard", "guard = { shares = 0.5 }", "3:11", "unknown key `shares`"),
        top("a share above 1", "guard = { share = 1.5 }", "3:19", "`share` can't be 1.5"),
        top("a share of 50", "guard = { share = 50 }", "3:19", "`share` can't be 50"),
        top("a share below 0", "guard = { share = -0.1 }", "3:19", "`share` can't be -0.1"),
        top("a share that is no number", "guard = { share = nan }", "3:19", "`share` can't be NaN"),
        top("a share as a text", "guard = { share = \"half\" }", "3:19", "`share` can't be of type string"),
        top("a min of 0", "guard = { min = 0 }", "3:17", "`min` can't be 0"),
        top("half a hash", "guard = { accept = \"0a1b\" }", "3:20", "`accept` is not the hash of a list"),
        top("a hash in upper case", &format!("guard = {{ accept = \"{}\" }}", "AB".repeat(32)), "3:20", "`accept` is not the hash of a list"),
        top("keep-dead as a text", "keep-dead = \"yes\"", "3:13", "`keep-dead` can't be of type string"),
        key("an unknown key of a rule", "imge = \"a\"", "4:1", "unknown key `imge`"),
        key("a key of the top", "mode = \"audit\"", "4:1", "unknown key `mode`"),
        key("a rule's key twice", "audit = true\naudit = true", "5:1", "duplicate key"),
        key("a dotted key", "image.name = \"a\"", "4:1", "`image` can't be of type table"),
        key("a dotted key of a text", "container.name = \"a\"", "4:1", "cannot extend value of type string"),
        key("a table of a rule", "[allow.grants]", "4:1", "`grants` can't be of type table"),
        key("a label twice", "labels = { a = \"b\", a = \"c\" }", "4:21", "duplicate key"),
        key("labels twice", "labels.a = \"b\"\nlabels.a = \"c\"", "5:8", "duplicate key"),

        // The top.
        file("a later version", "version = 2\nallow-nothing = true\n", "1:11", "version 2 is not known"),
        file("version 0", "version = 0\nallow-nothing = true\n", "1:11", "version 0 is not known"),
        file("a negative version", "version = -1\nallow-nothing = true\n", "1:11", "version -1 is not known"),
        file("a version as a text", "version = \"1\"\nallow-nothing = true\n", "1:11", "`version` can't be of type string"),
        // JSON has one kind of number.
        file("a version with a fraction", "version = 1.0\nallow-nothing = true\n", "1:11", "`version` can't be of type float").schema_accepts(),
        file("a version out of all range", "version = 100000000000000000000000000000\nallow-nothing = true\n", "1:11", "is not known"),
        top("an unknown mode", "mode = \"Enforce\"", "3:8", "unknown mode `Enforce`"),
        top("an empty mode", "mode = \"\"", "3:8", "unknown mode ``"),
        top("a mode of the wrong type", "mode = true", "3:8", "`mode` can't be of type boolean"),
        top("an unknown action", "action = \"destroy\"", "3:10", "unknown action `destroy`"),
        top("two actions", "action = [\"kill\"]", "3:10", "`action` can't be of type array"),
        top("an unknown on-create", "on-create = \"kill\"", "3:13", "unknown on-create `kill`"),
        top("an on-create of the wrong type", "on-create = false", "3:13", "`on-create` can't be of type boolean"),
        top("a stop-timeout without a unit", "stop-timeout = \"10\"", "3:16", "`stop-timeout` can't be `10`"),
        top("a stop-timeout as a number", "stop-timeout = 10", "3:16", "`stop-timeout` can't be of type integer"),
        top("an empty stop-timeout", "stop-timeout = \"\"", "3:16", "`stop-timeout` can't be ``"),
        top("a negative stop-timeout", "stop-timeout = \"-1s\"", "3:16", "whole seconds"),
        top("a stop-timeout below a second", "stop-timeout = \"500ms\"", "3:16", "whole seconds"),
        top("a stop-timeout with a fraction", "stop-timeout = \"1.5s\"", "3:16", "whole seconds"),
        top("a stop-timeout of hours", "stop-timeout = \"2h\"", "3:16", "up to an hour"),
        top("a stop-timeout of a day", "stop-timeout = \"1d\"", "3:16", "up to an hour"),
        // A sum is beyond a pattern.
        top("a stop-timeout just too long", "stop-timeout = \"60m1s\"", "3:16", "up to an hour").schema_accepts(),
        top("a stop-timeout out of all range", "stop-timeout = \"99999999999999999999s\"", "3:16", "up to an hour"),
        file("allow-nothing of the wrong type", "version = 1\nallow-nothing = \"yes\"\n", "2:17", "`allow-nothing` can't be of type string"),
        file("allow-nothing and a rule", "version = 1\nallow-nothing = true\n[[allow]]\nimage = \"a\"\n", "3:1", "excludes rules"),
        file("allow of the wrong type", "version = 1\nallow = \"nginx\"\n", "2:9", "`allow` can't be of type string"),
        file("a rule of the wrong type", "version = 1\nallow = [\"nginx\"]\n", "2:10", "`allow` can't be of type string"),
        file("one rule among others of the wrong type", "version = 1\nallow = [{ image = \"a\" }, 1]\n", "2:27", "`allow` can't be of type integer"),
        file("a single table for the rules", "version = 1\n[allow]\nimage = \"a\"\n", "2:1", "`allow` can't be of type table"),
        top("defaults of the wrong type", "defaults = []", "3:12", "`defaults` can't be of type array"),
        top("an unknown default", "defaults = { grant = [] }", "3:14", "unknown key `grant`"),
        top("another key as a default", "defaults = { max = 1 }", "3:14", "unknown key `max`"),
        top("default grants of the wrong type", "defaults = { grants = \"all\" }", "3:23", "`grants` can't be of type string"),
        top("a bad default grant", "[defaults]\ngrants = [\"host\"]", "4:11", "unknown grant `host`"),

        // Times.
        top("audit-until as a text", "audit-until = \"tomorrow\"", "3:15", "`audit-until` can't be of type string"),
        // JSON has no times.
        top("audit-until in quotes", "audit-until = \"2027-01-31T00:00:00Z\"", "3:15", "without quotes").schema_accepts(),
        top("audit-until without an offset", "audit-until = 2027-01-31T00:00:00", "3:15", TIME),
        key("expires as a date", "expires = 2027-01-31", "4:11", TIME),
        key("expires as a time of day", "expires = 07:00:00", "4:11", TIME),
        key("expires as a number", "expires = 1801353600", "4:11", "`expires` can't be of type integer"),
        // The last day of all belongs to no calendar but the grammar's.
        key("expires beyond all time", "expires = 9999-12-31T23:59:59Z", "4:11", "`expires` names no instant").schema_accepts(),
        key("expires in month 13", "expires = 2027-13-01T00:00:00Z", "4:11", "invalid date"),
        key("expires far from UTC", "expires = 2027-01-01T00:00:00+25:00", "4:11", "invalid offset"),

        // What a rule says of containers.
        rule("a rule that names nothing", "reason = \"because\"", "2:1", "a rule names at least one of"),
        rule("a rule that only grants", "grants = []", "2:1", "a rule names at least one of"),
        rule("no images", "image = []", "3:9", "`image` is an empty list"),
        rule("an empty image", "image = \"\"", "3:9", "an image pattern can't be empty"),
        rule("an image of the wrong type", "image = 5", "3:9", "`image` can't be of type integer"),
        rule("one image of the wrong type", "image = [\"a\", 5]", "3:15", "`image` can't be of type integer"),
        rule("images in images", "image = [[\"a\"]]", "3:10", "`image` can't be of type array"),
        rule("one bad image", "image = [\"a\", \"B\"]", "3:15", "image names are lower-case"),
        rule("an image in upper case", "image = \"Nginx\"", "3:9", "image names are lower-case"),
        rule("an image with a space", "image = \"ngi nx\"", "3:9", "can't be part of an image's name"),
        rule("an image as a URL", "image = \"https://example.com/app\"", "3:9", "can't be"),
        rule("an image with two tags", "image = \"nginx:1:2\"", "3:9", "can't be"),
        rule("an image with an empty tag", "image = \"nginx:\"", "3:9", "can't be an image's tag"),
        rule("an image with a long tag", &format!("image = \"nginx:{long}\""), "3:9", "can't be an image's tag"),
        rule("an image with a closing slash", "image = \"team/\"", "3:9", "can't be part"),
        rule("an image with two slashes", "image = \"team//app\"", "3:9", "can't be part"),
        rule("an image with a leading slash", "image = \"/app\"", "3:9", "can't be"),
        rule("an image with a question mark", "image = \"ngin?\"", "3:9", "can't be part"),
        rule("an image that is no ASCII", "image = \"übung\"", "3:9", "can't be part"),
        rule("a short pin", "image = \"nginx@sha256:0123\"", "3:9", "pin"),
        rule("a pin in upper case", &format!("image = \"nginx@sha256:{}\"", "AB".repeat(32)), "3:9", "pin"),
        rule("a pin with a wildcard", "image = \"nginx@sha256:*\"", "3:9", "pin"),
        rule("a short id", "image = \"sha256:0123\"", "3:9", "pin"),
        rule("an id without its algorithm", &format!("image = \"{}\"", "01".repeat(32)), "3:9", "pin"),
        rule("a pin by another algorithm", &format!("image = \"sha512:{}\"", "01".repeat(64)), "3:9", "pin"),
        // A sum again.
        rule("an image with a long name", &format!("image = \"{}/{long}\"", long), "3:9", "at most 255 characters").schema_accepts(),
        rule("no containers", "container = []", "3:13", "`container` is an empty list"),
        rule("an empty container", "container = \"\"", "3:13", "no container can be called ``"),
        rule("a container with a space", "container = \"a b\"", "3:13", "no container can be called `a b`"),
        rule("a container with a slash", "container = \"/web\"", "3:13", "no container can be called `/web`"),
        rule("a container of the wrong type", "container = { name = \"a\" }", "3:13", "`container` can't be of type table"),
        rule("one bad container", "container = [\"a\",\n \"?\"]", "4:2", "no container can be called `?`"),
        rule("no labels", "labels = {}", "3:10", "`labels` is an empty table"),
        rule("labels of the wrong type", "labels = \"a=b\"", "3:10", "`labels` can't be of type string"),
        rule("labels in a list", "labels = [\"a=b\"]", "3:10", "`labels` can't be of type array"),
        rule("a label of the wrong type", "labels = { a = 1 }", "3:16", "`a` can't be of type integer"),
        rule("a label whose dots want quotes", "labels.com.example = \"a\"", "3:8", "`com` can't be of type table"),
        rule("a label without a key", "labels = { \"\" = \"a\" }", "3:12", "a label's key can't be empty"),

        // What a rule lets them do.
        key("grants as a text", "grants = \"all\"", "4:10", "`grants` can't be of type string"),
        key("grants as a table", "grants = { all = true }", "4:10", "`grants` can't be of type table"),
        key("a grant of the wrong type", "grants = [\"all\", 1]", "4:18", "`grants` can't be of type integer"),
        key("an unknown grant", "grants = [\"host\"]", "4:11", "unknown grant `host`"),
        key("an empty grant", "grants = [\"\"]", "4:11", "unknown grant ``"),
        key("a grant in upper case", "grants = [\"Privileged\"]", "4:11", "unknown grant `Privileged`"),
        key("a grant with a value too many", "grants = [\"gpus:0\"]", "4:11", "unknown grant `gpus:0`"),
        key("a power that can't be granted", "grants = [\"unknown:IpcMode=new\"]", "4:11", "unknown grant"),
        key("a bind of nothing", "grants = [\"bind:\"]", "4:11", "is no absolute path"),
        key("a bind of a relative path", "grants = [\"bind:srv\"]", "4:11", "is no absolute path"),
        key("a bind that leads up", "grants = [\"bind:/srv/../etc\"]", "4:11", "is no absolute path"),
        key("a bind that ends with up", "grants = [\"bind:/srv/..:ro\"]", "4:11", "is no absolute path"),
        key("a bind with a wildcard", "grants = [\"bind:/srv/*\"]", "4:11", "is no absolute path"),
        key("a bind with a wildcard within", "grants = [\"bind:/srv/**/x\"]", "4:11", "is no absolute path"),
        key("a device that is no path", "grants = [\"device:fuse\"]", "4:11", "is no absolute path"),
        key("an unknown capability", "grants = [\"cap:SYS_ADMN\"]", "4:11", "unknown capability `SYS_ADMN`"),
        // The spellings are too many for the schema.
        key("an unknown capability in lower case", "grants = [\"cap:sys_admn\"]", "4:11", "unknown capability").schema_accepts(),
        key("an empty capability", "grants = [\"cap:\"]", "4:11", "unknown capability"),
        key("a join of nobody", "grants = [\"join:\"]", "4:11", "unknown grant"),
        key("a join of no name", "grants = [\"join:a b\"]", "4:11", "unknown grant"),
        key("a volume without a driver", "grants = [\"volume:\"]", "4:11", "unknown grant"),
        key("the second of two grants", "grants = [\"all\",\n\"runtime:\"]", "5:1", "unknown grant"),

        // The rest of a rule.
        key("an empty name", "rule = \"\"", "4:8", "`rule` is empty"),
        key("a name of the wrong type", "rule = 1", "4:8", "`rule` can't be of type integer"),
        // What is unique is beyond it too.
        key("a name twice", "rule = \"x\"\n[[allow]]\nrule = \"x\"\nimage = \"b\"", "6:8", "rule 1 is already called `x`").schema_accepts(),
        key("a name that is made later", "rule = \"allow-2\"\n[[allow]]\nimage = \"b\"", "4:8", "rule 2 is already called `allow-2`").schema_accepts(),
        key("a name that was made before", "[[allow]]\nrule = \"allow-1\"\nimage = \"b\"", "5:8", "rule 1 is already called `allow-1`").schema_accepts(),
        key("max of nothing", "max = 0", "4:7", "`max` can't be 0"),
        key("a negative max", "max = -1", "4:7", "`max` can't be -1"),
        key("max out of range", "max = 4294967296", "4:7", "`max` can't be 4294967296"),
        key("max out of all range", "max = 99999999999999999999", "4:7", "`max` can't be 9999"),
        key("max out of range in hex", "max = 0x1_0000_0000", "4:7", "`max` can't be 0x100000000"),
        key("max with a fraction", "max = 1.5", "4:7", "`max` can't be of type float"),
        key("max as a float", "max = 1.0", "4:7", "`max` can't be of type float").schema_accepts(),
        key("max without end", "max = inf", "4:7", "`max` can't be of type float"),
        key("max that is no number", "max = nan", "4:7", "`max` can't be of type float"),
        key("max as a text", "max = \"3\"", "4:7", "`max` can't be of type string"),
        key("exec of the wrong type", "exec = \"no\"", "4:8", "`exec` can't be of type string"),
        key("an unknown command", "command = \"own\"", "4:11", "unknown command `own`"),
        key("a command to run", "command = [\"sh\", \"-c\"]", "4:11", "`command` can't be of type array"),
        key("keep-running of the wrong type", "keep-running = 1", "4:16", "`keep-running` can't be of type integer"),
        key("build-steps of the wrong type", "build-steps = \"true\"", "4:15", "`build-steps` can't be of type string"),
        key("audit of the wrong type", "audit = \"audit\"", "4:9", "`audit` can't be of type string"),
        key("a reason of the wrong type", "reason = 112", "4:10", "`reason` can't be of type integer"),
    ]
}

/// A list that uses every key there is.
pub(crate) const EVERY_KEY: &str = r#"
version = 1
mode = "audit"
audit-until = 2027-01-31T00:00:00+01:00
action = "stop"
stop-timeout = "1m 30s"
on-create = "remove"
keep-dead = false
guard = { share = 0.25, min = 3, accept = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f" }

[defaults]
grants = ["cap:NET_BIND_SERVICE"]

[[allow]]
rule = "web"
image = ["nginx:1.27*", "registry.example.com:5000/shop/**"]
container = ["web-*", "front"]
labels = { "com.docker.compose.project" = "shop*", tier = "" }
grants = ["host-network", "bind:/srv/www:ro"]
max = 3
expires = 2027-01-31T00:00:00Z
exec = false
command = "image"
keep-running = true
build-steps = true
audit = true
reason = "shop front, OPS-112"
"#;

/// Lists that are fine.
#[rustfmt::skip]
pub(crate) fn valid() -> Vec<(&'static str, String)> {
    let top = |keys: &str| format!("version = 1\nallow-nothing = true\n{keys}\n");
    let rule = |keys: &str| format!("version = 1\n[[allow]]\n{keys}\n");
    let key = |keys: &str| rule(&format!("container = \"web\"\n{keys}"));
    vec![
        ("every key", EVERY_KEY.to_owned()),
        ("every key, lines ended as on Windows", EVERY_KEY.replace('\n', "\r\n")),
        ("every key behind a byte order mark", format!("\u{feff}{EVERY_KEY}")),
        ("nothing allowed", top("")),
        ("nothing allowed and an empty list", top("allow = []")),
        ("every mode", top("mode = \"enforce\"")),
        ("an old end of the audit", top("audit-until = 2020-01-01 00:00:00z")),
        ("no time to stop", top("stop-timeout = \"0s\"")),
        ("an hour to stop", top("stop-timeout = \"1h\"")),
        ("an hour to stop, in seconds", top("stop-timeout = \"3600 seconds\"")),
        ("waiting on create", top("on-create = \"wait\"")),
        ("an empty guard", top("guard = {}")),
        ("a guard that holds nothing", top("guard = { share = 1 }")),
        ("a guard that holds everything", top("guard.share = 0\nguard.min = 1")),
        ("the dead kept dead", top("keep-dead = true")),
        ("no defaults", top("[defaults]")),
        ("default grants", top("defaults.grants = [\"all\"]")),
        ("action kill", top("action = \"kill\"")),
        ("action pause", top("action = \"pause\"")),
        ("action remove", top("action = \"remove\"")),
        ("not nothing", "version = 1\nallow-nothing = false\nallow = [{ image = \"a\" }]\n".to_owned()),
        ("a version in hex", "version = 0x1\nallow-nothing = true\n".to_owned()),
        ("a version with a sign", "version = +1\nallow-nothing = true\n".to_owned()),
        ("inline rules", "version = 1\nallow = [{ image = \"a\" }, { image = \"b\", max = 1 }]\n".to_owned()),
        ("every image", rule("image = \"**\"")),
        ("every image of a tag", rule("image = \"**:1\"")),
        ("an image of a host", rule("image = \"localhost:5000/app\"")),
        ("an image of an address", rule("image = \"[2001:db8::1]:5000/app:1\"")),
        ("an image of a host in upper case", rule("image = \"REGISTRY/app\"")),
        ("an image of any host", rule("image = \"*.example.com/a--b/c__d.e:*-alpine\"")),
        ("an image like an id", rule("image = \"c9e547d4c22c\"")),
        ("a pin", rule(&format!("image = \"nginx:1.27@sha256:{}\"", "01".repeat(32)))),
        ("a pin of any tag", rule(&format!("image = \"nginx:*@sha256:{}\"", "01".repeat(32)))),
        ("a pin without a name", rule(&format!("image = \"sha256:{}\"", "01".repeat(32)))),
        ("an image on a host that is none", rule("image = \"a_b.c/app\"")),
        ("a container of any name", rule("container = \"*\"")),
        ("a label of any value", rule("labels = { a = \"*\", \"b c\" = \"x=y\" }")),
        ("labels by dotted keys", rule("labels.a = \"b\"\nlabels.\"c.d\" = \"e\"")),
        ("labels in a table", rule("[allow.labels]\na = \"b\"")),
        ("no grants", key("grants = []")),
        ("a grant twice", key("grants = [\"all\", \"all\"]")),
        ("every plain grant", key("grants = [\"privileged\", \"host-network\", \"host-pid\", \"host-ipc\", \"host-uts\", \"host-userns\", \"host-cgroupns\", \"engine-socket\", \"device-rule\", \"gpus\", \"unconfined\", \"all\"]")),
        ("every grant with a value", key("grants = [\"join:web-*\", \"bind:/\", \"bind:/**\", \"bind:/srv/www/\", \"bind:/srv/**:ro\", \"bind:/srv:rw\", \"bind:/a b/..c\", \"volume:nfs\", \"device:/dev/fuse\", \"runtime:kata\"]")),
        ("capabilities in every spelling", key("grants = [\"cap:SYS_ADMIN\", \"cap:CAP_SYS_ADMIN\", \"cap:sys_admin\", \"cap:all\"]")),
        ("the largest max", key("max = 4294967295")),
        ("a max in hex", key("max = 0x1_0")),
        ("every default of a rule", key("exec = true\ncommand = \"any\"\nkeep-running = false\nbuild-steps = false\naudit = false")),
        ("an expiry far from UTC", key("expires = 2027-01-31T12:30:00.123456789+14:00")),
        ("names that look alike", rule("rule = \"allow-2\"\nimage = \"a\"\n[[allow]]\nrule = \"allow-1\"\nimage = \"b\"")),
        ("a comment with what is no list", rule("image = \"a\" # = [[ \"\n#")),
    ]
}
