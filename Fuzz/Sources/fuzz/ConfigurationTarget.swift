internal import MemoryUnits

@testable internal import ServiceSupport

extension FuzzTarget {
    /// A configuration file. An error names a line of it; what is accepted is written and read again the same.
    static let configuration = FuzzTarget(name: "configuration") { bytes in
        let lines = bytes.count { $0 == UInt8(ascii: "\n") } + 1
        do throws(ConfigurationError) {
            let document = try INIDocument(parsing: bytes, file: "input.conf")
            for assignment in document.assignments {
                hold((1...lines).contains(assignment.line), "\(assignment) is in no line")
            }
            let configuration = try TDXDConfiguration([document])
            let text = written(configuration)
            do throws(ConfigurationError) {
                let again = try TDXDConfiguration([INIDocument(parsing: Array(text.utf8), file: "again.conf")])
                hold(again == configuration, "written and read again, it is another configuration:\n\(text)")
            } catch { fatalError("what was read is not accepted again: \(error)\n\(text)") }
        } catch {
            hold(error.line.map((1...lines).contains) == true, "an error without a line: \(error)")
            hold(error.file == "input.conf", "an error in another file: \(error)")
        }
    }

    private static func written(_ configuration: TDXDConfiguration) -> String {
        var text = ""
        var section = ""
        for setting in Setting.all {
            if setting.section != section {
                section = setting.section
                text += "[\(section)]\n"
            }
            text += "\(setting.key) = \(setting.text(in: configuration))\n"
        }
        return text
    }
}
