internal import Glibc
internal import LinuxSystem
internal import SystemPackage

/// The program `tdx-holder`.
struct HolderProgram: Sendable {
    /// An absolute path.
    let path: String

    /// `tdx-holder` beside the running program.
    static func beside(executable link: String = "/proc/self/exe") throws(LinuxError) -> Self {
        let plain = try ProgramFiles.own(link: link)
        let directory = plain.lastIndex(of: "/").map { String(plain[..<$0]) } ?? ""
        let program = directory + "/tdx-holder"
        guard access(program, X_OK) == 0 else {
            throw LinuxError("access", Errno(rawValue: errno), detail: program)
        }
        return Self(path: program)
    }
}
