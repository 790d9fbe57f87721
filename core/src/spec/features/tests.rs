//! Lists of features that are right, and those whose faults must be named.

use crate::spec::JobSpec;

use super::{Encoding, Missing};

fn job(data: &str, input: usize) -> Result<JobSpec, String> {
    let text = format!(
        "[job]\nname = \"j\"\nrounds = 1\n[data]\nkind = \"table\"\nclasses = 2\n{data}\n[model]\n\
         preset = \"logistic_regression\"\ninput = {{ shape = [{input}] }}\n[train]\nbatch_size = 1\n\
         optimizer = {{ kind = \"sgd\", learning_rate = 0.1 }}\n"
    );
    JobSpec::parse(&text).map_err(|faults| faults.to_string())
}

#[test]
fn a_job_lists_the_columns_that_it_reads() {
    let data = "missing = \"drop\"\nfeatures = [\"age\", \
                { column = \"pain\", categories = [1, 2, \"none\"] }, \
                { column = \"pulse\", mean = 70, deviation = 12.5, missing = \"flag\", fill = 1 }]";
    let spec = job(data, 6).expect("good");
    let features = spec.constants.features.expect("a list");
    let names: Vec<&str> = features.iter().map(|feature| feature.column.as_str()).collect();
    assert_eq!(names, ["age", "pain", "pulse"]);
    assert_eq!(features[0].reading.encoding, Encoding::plain());
    assert_eq!(features[0].reading.missing, Missing::Drop);
    let categories = ["1", "2", "none"].map(str::to_owned).to_vec();
    assert_eq!(features[1].reading.encoding, Encoding::OneHot(categories));
    assert_eq!(features[2].reading.encoding, Encoding::Number { mean: 70.0, deviation: 12.5 });
    assert_eq!(features[2].reading.missing, Missing::Flag(1.0));
    let tables = "[[data.features]]\ncolumn = \"age\"\n[[data.features]]\ncolumn = \"pulse\"\n";
    assert_eq!(job(tables, 2).expect("good").constants.features.expect("a list").len(), 2);
}

#[test]
fn faults_in_a_list_are_named() {
    for (data, input, part) in [
        ("features = []", 1, "data.features: expected 1 to 32768 different columns"),
        ("features = [\"a\", \"a\"]", 2, "data.features: expected 1 to 32768 different columns"),
        ("features = [3]", 1, "data.features[0]: expected a column's name"),
        ("features = [\"\"]", 1, "data.features[0]: expected a name of 1 to 256 bytes"),
        ("features = [{ colum = \"a\" }]", 1, "data.features[0].column"),
        ("features = [\"a\", \"b\"]", 3, "data.features: expected 3 numbers, as the model's input"),
        (
            "features = [{ column = \"a\", mean = 2 }]\n[data.normalise]\nmean = 1\ndeviation = 2",
            1,
            "data.normalise: expected one set of constants",
        ),
        (
            "features = [{ column = \"a\", mean = 2 }]\nnormalise = \"federated\"",
            1,
            "data.normalise: expected one set of constants",
        ),
        ("missing = \"drop\"", 1, "missing"),
    ] {
        let told = job(data, input).expect_err(data);
        assert!(told.contains(part), "{part:?} is missing in {told}");
    }
    let picture = "[job]\nname = \"j\"\nrounds = 1\n[data]\nkind = \"image\"\nclasses = 2\n\
                   features = [\"a\"]\n[model]\npreset = \"logistic_regression\"\n\
                   input = { shape = [1, 1, 1] }\n[train]\nbatch_size = 1\n\
                   optimizer = { kind = \"sgd\", learning_rate = 0.1 }\n";
    let told = JobSpec::parse(picture).expect_err("pictures have no columns").to_string();
    assert!(told.contains("data.features: expected nothing where kind is not \"table\""), "{told}");
}
