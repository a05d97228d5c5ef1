import ControlInterface
import LinuxSystem
import ServiceSupport
import Testing

/// The manual pages that scripts/manual-pages makes of the programs and of config/tdxd.conf.
@Suite struct ManualPagesTests {
    private func pages() throws -> [String: String] {
        let host = try PrivateHost(start: false)
        let directory = host.directory
        let made = try runProgram(
            "/usr/bin/python3",
            [
                "/" + #filePath.split(separator: "/").dropLast(3).joined(separator: "/") + "/scripts/manual-pages",
                Programs.directory, directory + "/man",
            ],
            in: directory)
        try #require(made.status == 0, "\(made)")
        let names = try TextFile.list(directory + "/man")
        return try Dictionary(
            uniqueKeysWithValues: names.map { ($0, try TextFile.read(directory + "/man/" + $0, limit: 1 << 20)) })
    }

    @Test func `every command, setting, state and exit status has its place`() throws {
        let pages = try pages()
        #expect(pages.keys.sorted() == ["tdx-holder.8", "tdxctl.1", "tdxd.8", "tdxd.conf.5"])
        let tdxctl = try #require(pages["tdxctl.1"])
        for command in ["create", "list", "stop", "wait", "certificate show", "kexec check"] {
            #expect(tdxctl.contains("\n.SS tdxctl \(command)\n"), "no part for \(command)")
        }
        for state in TrustDomainState.allCases {
            #expect(tdxctl.contains("\n.TP\n\\fB\(state.rawValue)\\fR\n"), "no line for \(state)")
        }
        for status in [0, 1, 2, 3, 4, 5, 6, 69, 75] {
            #expect(tdxctl.contains("\n.TP\n\\fB\(status)\\fR\n"), "no line for exit status \(status)")
        }
        let settings = try #require(pages["tdxd.conf.5"])
        for setting in Setting.all {
            #expect(settings.contains("\n.TP\n\\fB\(setting.key)\\fR\n"), "no line for \(setting.key)")
        }
        // A line that begins with a dot and is no request would be lost.
        let requests = [".TH", ".SH", ".SS", ".TP", ".PP"]
        for (name, page) in pages {
            for line in page.split(separator: "\n") where line.first == "." || line.first == "'" {
                #expect(requests.contains(String(line.prefix(3))), "\(name): \(line)")
            }
        }
    }
}
