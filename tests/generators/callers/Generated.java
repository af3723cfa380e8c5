package javax.annotation;

/** Stands for the annotation of Maven's jakarta.annotation-api 1.3, with which the generated classes are marked. */
public @interface Generated {
  String[] value();

  String date() default "";

  String comments() default "";
}
