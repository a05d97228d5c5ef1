/// The version that all three programs share and that `org.varlink.service.GetInfo` returns.
public enum ControlInterfaceVersion {
    public static let text = "0.1.0"
}
