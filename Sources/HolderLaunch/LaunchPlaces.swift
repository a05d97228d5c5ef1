internal import Glibc

/// What tdxd and the launcher agree on beside their messages.
public enum LaunchPlaces {
    /// The launcher finds its socket under this number.
    public static let socket: Int32 = 3

    /// Holders' directories in the runtime directory, each named by its TD's id.
    public static func holders(in runtimeDirectory: String) -> String { runtimeDirectory + "/holders" }

    /// What the launcher and holders get of the caller's environment: where to log, and nothing that is meant for tdxd alone.
    public static var environment: [String] {
        var result = ["PATH=/usr/bin:/bin"]
        for name in ["JOURNAL_STREAM", "LANG", "LLVM_PROFILE_FILE", "TSAN_OPTIONS", "ASAN_OPTIONS"] {
            if let value = getenv(name) { result.append("\(name)=\(String(cString: value))") }
        }
        return result
    }
}
