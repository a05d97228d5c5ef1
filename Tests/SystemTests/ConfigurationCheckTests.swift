import Glibc
import LinuxSystem
import Testing

/// What tdxd does with its configuration without serving.
@Suite struct ConfigurationCheckTests {
    private func tdxd(_ host: PrivateHost, _ arguments: String...) throws -> Finished {
        try runProgram(
            Programs.tdxd, ["--config", host.directory + "/tdxd.conf"] + arguments, in: host.directory)
    }

    private func write(_ text: String, to path: String) throws {
        let file = try openForAppending(path)
        let bytes = Array(text.utf8)
        try #require(Glibc.write(file.rawValue, bytes, bytes.count) == bytes.count)
    }

    @Test func `every mistake of every file is reported, and tdxd does not start with one`() throws {
        let host = try PrivateHost(settings: "[limits]\ntrust_domains = none", start: false)
        mkdir(host.directory + "/tdxd.conf.d", 0o755)
        try write(
            "[teardown]\npolcy = auto\n[memory]\nrelease_chunk = 64M\nshard_minimum = 3M\n",
            to: host.directory + "/tdxd.conf.d/a.conf")
        try write("no setting\n", to: host.directory + "/tdxd.conf.d/b.conf")
        for arguments in [["--check-config"], ["--print-config"], []] {
            let result = try runProgram(
                Programs.tdxd, ["--config", host.directory + "/tdxd.conf"] + arguments, in: host.directory)
            #expect(result.status == 78 && result.output.isEmpty)
            for part in [
                "tdxd.conf:", "trust_domains is “none”", "a.conf:2: unknown key “polcy”", "a.conf:5:", "b.conf:1:",
            ] {
                #expect(result.errors.contains(part), "no \(part) in \(result.errors)")
            }
        }
    }

    @Test func `what is printed can be read again and says where each value comes from`() throws {
        let host = try PrivateHost(settings: "[limits]\ntrust_domains = 7", start: false)
        let valid = try tdxd(host, "--check-config")
        #expect(valid.status == 0 && valid.output == "The configuration is valid.\n")
        let printed = try tdxd(host, "--print-config")
        #expect(printed.status == 0)
        #expect(printed.output.contains("tdxd.conf:10\ntrust_domains = 7\n"), "\(printed.output)")
        #expect(printed.output.contains("# default\nemulated_key_ids = 32\n"))
        unlink(host.directory + "/tdxd.conf")
        try write(printed.output, to: host.directory + "/tdxd.conf")
        #expect(try tdxd(host, "--check-config").status == 0)
        // It changed nothing else: no directory was made.
        #expect(access(host.runtime, F_OK) != 0)
    }
}
